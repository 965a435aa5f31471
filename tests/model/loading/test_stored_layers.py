"""A file's own blocks through the real loader into the layers that multiply by them."""

from pathlib import Path

import gguf
import pytest
import torch
from torch import Tensor

from tests.model.loading.test_stored import Apart, stored
from tests.model.native.products.stored_twin import product
from tests.model.steps import Row, make_batch
from tests.weights import tiny
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.declare.parameter import Dealt, Role, Rows
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.loading.load_tensors import load_tensor
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.parallel.parallel_linear import VocabParallelTiedLinear, make_linear
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.engine_info import linear_methods
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

CPU = torch.device("cpu")


def loaded(path: Path, native: Library, quantize: str) -> Transformer:
    checkpoint = open_checkpoint(path)
    attention = NativeAttention(native)
    model = Transformer(
        *(checkpoint.config, attention),
        dtype=torch.float32,
        device=CPU,
        quantize=quantize,
        native=native,
    )
    loader = ModelLoader(model)
    load_weights(checkpoint, loader)
    loader.finish()
    return model


def logits(model: Transformer) -> Tensor:
    """Of a prompt, and of steps from tape after it."""
    cache, tokens = KVCache(model.config, 4, 16, torch.float32, CPU), list(range(9))
    rows = [model(make_batch([Row(tokens, 0, range(4))], 16, "all"), cache)]
    rows += [model(make_batch([Row([7], 9 + i, range(4))], 16), cache).clone() for i in range(4)]
    return torch.cat(rows)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("name", ["Q4_0", "Q8_0"])
def test_a_file_through_the_real_loader(
    native: Library, name: str, is_tied: bool, tmp_path: Path
) -> None:
    """All layers and the head have the file's blocks, and answer as what the blocks stand for."""
    model = tiny.llama(tie_word_embeddings=is_tied)
    for parameter in model.parameters():  # so that rounding is not what decides
        parameter.data *= 0.15 if parameter.dim() == 2 else 1.0
    path = tiny.llama_gguf(model, tmp_path / "m.gguf", kind=gguf.GGMLQuantizationType[name])
    ours, exact = loaded(path, native, "stored"), loaded(path, native, "none")
    layers = [m for m in ours.modules() if isinstance(m, Linear | TiedLinear)]
    assert len(layers) == 9
    assert all(isinstance(layer.kept, StoredLinearKernel) for layer in layers)
    assert linear_methods(ours) == [f"NativeStored({name})"]
    assert not ours.tape.reason
    mine, theirs = logits(ours), logits(exact)
    assert (mine - theirs).norm() / theirs.norm() < 0.05
    assert not torch.equal(mine, theirs)


def test_what_has_no_blocks_is_rounded_and_said(native: Library, tmp_path: Path) -> None:
    path = tiny.llama_gguf(tiny.llama(), tmp_path / "m.gguf")
    model, rounded = loaded(path, native, "stored"), loaded(path, native, "int8")
    assert linear_methods(model) == ["NativeInt8"]
    assert torch.equal(logits(model), logits(rounded))


@pytest.mark.parametrize(("width", "is_stored"), [(128, True), (96, False)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_takes_its_columns(native: Library, rank: int, width: int, is_stored: bool) -> None:
    """Blocks of 32: 64 columns are two, 48 would cut one, and are rounded to 8 bits."""
    where = Placement(torch.float32, CPU, "stored", native=native, ranks=Apart(rank))
    part = LinearPart(width, (Rows(4, Role.OUTPUT),), False, Dealt.COLUMNS)
    whole = stored("Q4_0", 4, width)
    layer = make_linear(part, where)
    load_tensor(layer, part.own(), Apart(rank), "weight", None, whole)
    layer.finish()
    assert isinstance(layer.kept, StoredLinearKernel) == is_stored
    x = torch.randn(3, width // 2)
    own = torch.from_numpy(whole.widen()).chunk(2, dim=1)[rank]
    torch.testing.assert_close(layer(x), x @ own.T, rtol=0.02, atol=0.1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_takes_its_tokens_of_a_tied_head(native: Library, rank: int) -> None:
    where = Placement(torch.float32, CPU, "stored", native=native, ranks=Apart(rank))
    whole = stored("Q8_0", 97, 64)
    table = torch.from_numpy(whole.widen())
    head = VocabParallelTiedLinear(table, where)
    head.take_stored(whole)
    head.finish()
    assert not head.reads_table
    x = torch.randn(3, 64)
    own = slice(0, 49) if rank == 0 else slice(49, 97)
    expected = torch.from_numpy(product(x.numpy(), whole))[:, own]
    assert torch.equal(TiedLinear.forward(head, x), expected)
