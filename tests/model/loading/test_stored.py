"""A layer may take a file's own blocks: raw, in its rows' order, its rank's share; else numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from tests.weights import tiny
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.declare.parameter import Dealt, Role, Rows
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear import linear as linear_module
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import FromStored, LinearLayer
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.loading.load_tensors import load_tensor
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parallel.shares import ALONE, Ranks
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES
from thirdeye.weights.load import load_weights

CPU = torch.device("cpu")
FORMATS = ["Q8_0", "Q4_0"]


class RawBlocks(FromStored):
    """Keeps blocks as they came; what it makes of numbers is plain to see."""

    stored_formats = frozenset(FORMATS)

    def finish(self, layer: LinearLayer) -> None:
        layer.kept = None

    def finish_stored(self, layer: LinearLayer, rows: Sequence[StoredTensor]) -> None:
        layer.kept = [tensor.reordered(np.copy) for tensor in rows]
        layer.weight.fill_(torch.nan)  # nobody needs it

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        kept = layer.kept and [torch.from_numpy(tensor.widen()) for tensor in layer.kept]
        weight = torch.cat(kept) if kept else layer.weight
        return torch.nn.functional.linear(x, weight, layer.bias)


@dataclass(frozen=True, slots=True)
class Apart:
    """One of two ranks that never meet."""

    rank: int
    size: int = 2

    def add_up(self, x: Tensor) -> Tensor:
        return x

    def gather(self, x: Tensor, dim: int) -> Tensor:
        return x


def stored(name: str, rows: int, width: int) -> StoredTensor:
    number, kind = next((n, kind) for n, kind in TENSOR_TYPES.items() if kind.name == name)
    values = np.random.default_rng(rows).standard_normal((rows, width)).astype(np.float32)
    packed = gguf.quantize(values, gguf.GGMLQuantizationType(number))
    return stored_tensor(memoryview(packed.tobytes()), kind, (rows, width))


def layer_of(part: LinearPart, ranks: Ranks = ALONE) -> Linear:
    where = Placement(torch.float32, CPU, ranks=ranks)
    return make_linear(part, where, method=RawBlocks())


def part_of(width: int, dealt: Dealt) -> LinearPart:
    rows = (Rows(8, Role.QUERY, "q"), Rows(4, Role.KEY, "k"), Rows(4, Role.VALUE, "v"))
    return LinearPart(width, rows, False, dealt)


def fill(layer: Linear, part: LinearPart, ranks: Ranks, given: dict[str, object]) -> None:
    for name, tensor in given.items():
        load_tensor(layer, part.own(), ranks, "weight", name, tensor)  # type: ignore[arg-type]
    layer.finish()


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_come_as_they_lie_in_the_file(name: str) -> None:
    """Byte for byte, in the layer's order of rows, whichever came first."""
    part = part_of(64, Dealt.ROWS)
    layer = layer_of(part)
    given = {"v": stored(name, 4, 64), "q": stored(name, 8, 64), "k": stored("Q8_0", 4, 64)}
    fill(layer, part, ALONE, given)
    wanted = [given[row] for row in "qkv"]
    assert [kept.format for kept in layer.kept] == [tensor.format for tensor in wanted]
    for kept, tensor in zip(layer.kept, wanted, strict=True):
        np.testing.assert_array_equal(kept.blocks, tensor.blocks)
    x = torch.randn(3, 64)
    weight = torch.from_numpy(np.concatenate([tensor.widen() for tensor in wanted]))
    torch.testing.assert_close(layer(x), x @ weight.T)


@pytest.mark.parametrize("k", [stored("Q4_1", 4, 64), torch.ones(4, 64)])
def test_one_part_in_another_form_widens_all(k: object) -> None:
    """A format without a kernel, or numbers: the layer has one form."""
    part = part_of(64, Dealt.ROWS)
    layer = layer_of(part)
    q, v = stored("Q8_0", 8, 64), stored("Q8_0", 4, 64)
    fill(layer, part, ALONE, {"q": q, "k": k, "v": v})
    assert layer.kept is None
    middle = k if isinstance(k, Tensor) else torch.from_numpy(k.widen())  # type: ignore[attr-defined]
    wanted = torch.cat((torch.from_numpy(q.widen()), middle, torch.from_numpy(v.widen())))
    assert torch.equal(layer.weight, wanted)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_takes_its_rows(rank: int) -> None:
    part = part_of(64, Dealt.ROWS)
    layer = layer_of(part, Apart(rank))
    given = {"q": stored("Q4_0", 8, 64), "k": stored("Q4_0", 4, 64), "v": stored("Q8_0", 4, 64)}
    fill(layer, part, Apart(rank), given)
    for kept, whole in zip(layer.kept, given.values(), strict=True):
        np.testing.assert_array_equal(kept.widen(), np.split(whole.widen(), 2)[rank])


@pytest.mark.parametrize(("width", "is_raw"), [(128, True), (96, False)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_takes_its_columns(rank: int, width: int, is_raw: bool) -> None:
    """Blocks of 32: 64 columns each are two, 48 would cut one."""
    part = LinearPart(width, (Rows(4, Role.OUTPUT),), False, Dealt.COLUMNS)
    layer, whole = layer_of(part, Apart(rank)), stored("Q4_0", 4, width)
    load_tensor(layer, part.own(), Apart(rank), "weight", None, whole)
    layer.finish()
    own = np.split(whole.widen(), 2, axis=1)[rank]
    assert (layer.kept is not None) == is_raw
    np.testing.assert_array_equal(layer.kept[0].widen() if is_raw else layer.weight, own)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_through_the_real_loader(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw or widened: one model, the rows of q and k that GGUF permutes included."""
    kind = gguf.GGMLQuantizationType[name]
    path = tiny.llama_gguf(tiny.llama(), tmp_path / "m.gguf", kind=kind)
    wide = logits(path)
    monkeypatch.setattr(linear_module, "choose_linear", lambda where: RawBlocks())
    monkeypatch.setattr("thirdeye.model.transformer.choose_head", lambda where: RawBlocks())
    raw = logits(path)
    torch.testing.assert_close(raw, wide)


def logits(path: Path) -> Tensor:
    checkpoint = open_checkpoint(path)
    model = Transformer(checkpoint.config, BlockedAttention(), dtype=torch.float32, device=CPU)
    loader = ModelLoader(model)
    load_weights(checkpoint, loader)
    loader.finish()
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    is_raw = isinstance(linears[0].method, RawBlocks)
    assert all(bool(getattr(layer, "kept", None)) == is_raw for layer in linears)
    cache = KVCache(checkpoint.config, 2, 16, torch.float32, CPU)
    return model(make_batch([Row(range(9), 0, [1])], 16, "all"), cache)
