"""Embeddings in fewer bits: the same numbers, bit for bit, or the table stays as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.loading.test_stored import FORMATS, RawBlocks, stored
from tests.model.tiny import CPU, LLAMA, change
from tests.weights.dummy import dummy_tensor
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.parameter import Role
from thirdeye.model.declare.parts import TablePart
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.unquantized import Unquantized
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.loading.widen import decode
from thirdeye.model.native.library import Library
from thirdeye.model.native.look_up import LookUpKernel
from thirdeye.model.parts.compact_table import Blocks, Halves, as_stored, compact, equal_bits
from thirdeye.model.parts.layers import Embedding
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.load_engine import load_model
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES

FP32 = Placement(torch.float32, CPU)
HALVES = (torch.float16, torch.bfloat16)


def blocks(seed: int, rows: int = 67, width: int = 96, *, least: int = -24) -> Tensor:
    """A table as Q8_0 holds it: scales from 2**least, the smallest float16, up; one of them 0."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-127, 128, (rows, width // 32, 32), generator=generator).float()
    numbers[..., 3] = 127 * (1 - 2 * torch.randint(0, 2, numbers.shape[:2], generator=generator))
    exponents = torch.randint(least, least // 8 + 1, numbers.shape[:2], generator=generator)
    scales = ((1 + torch.rand(numbers.shape[:2], generator=generator)) * 2.0**exponents).half()
    scales[0, 0] = 0
    return (numbers * scales.float().unsqueeze(2)).flatten(1) + 0.0  # no zero with a minus


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_blocks_come_back(seed: int) -> None:
    """8 bits and a scale, found in the float32 that a reader made of them."""
    table = blocks(seed)
    kept = compact(table)
    assert isinstance(kept, Blocks)
    assert equal_bits(kept.look_up(torch.arange(len(table))), table)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("width", [32, 33])
def test_halves_come_back(dtype: torch.dtype, width: int) -> None:
    """Whatever 16 bits hold, infinities and a minus before a zero too."""
    table = torch.randn(130, width).to(dtype).float()
    least = torch.finfo(dtype).smallest_normal  # for bfloat16 nothing that float16 has
    table[0, :3] = torch.tensor([-0.0, torch.inf, least])
    kept = compact(table)
    assert isinstance(kept, Halves)
    assert kept.numbers.dtype == dtype
    ids = torch.tensor([129, 0, 0, 64])
    assert equal_bits(kept.look_up(ids), table[ids])


def test_a_kernel_finds_the_same_rows(native: Library) -> None:
    """Of each form that it knows, in any order, one of them several times, and none."""
    kernel = LookUpKernel(native)
    for table in (blocks(4), *(torch.randn(67, 33).to(d).float() for d in HALVES)):
        kept = compact(table)
        assert kept is not None
        by_kernel = kept.by_kernel(kernel)
        for ids in ([], [0], [66, 1, 1], list(range(67))):
            wanted = torch.tensor(ids, dtype=torch.int64)
            assert equal_bits(by_kernel(wanted), table[wanted])


@pytest.mark.parametrize("row", [0, 63, 64, 129])
@pytest.mark.parametrize("value", [0.1, torch.nan, -0.0, 3e38])
def test_one_number_that_does_not_fit_keeps_the_table(row: int, value: float) -> None:
    """Wherever it stands: a table that is nearly the same would be another model."""
    table = blocks(1, rows=130)
    table[row, 40] = value
    assert not isinstance(compact(table), Blocks)
    table = torch.randn(130, 48)
    assert compact(table) is None


def test_other_devices_and_types_keep_theirs() -> None:
    """Only float32 has bits to spare, and a GPU's graphs look the table up as it is."""
    embedding = Embedding(TablePart(8, 32, Role.EMBEDDINGS), Placement(torch.bfloat16, CPU))
    embedding.weight.zero_()
    embedding.shrink()
    assert embedding.weight.dtype == torch.bfloat16


def filled(
    config: ModelConfig, table: Tensor | StoredTensor, method: LinearMethod | None = None
) -> Transformer:
    """A loaded model with this table; its head computes by `method`, else as it likes."""
    model = Transformer(config, BlockedAttention(), dtype=torch.float32, device=CPU)
    if method is not None:
        model.lm_head.method = method
    loader = ModelLoader(model)
    for name, part in loader.expected():
        is_table = name == "embed_tokens.weight"
        loader.load(name, part, table if is_table else dummy_tensor(config, 0, name, part))
    loader.finish()
    return model


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_loaded_model_keeps_few_bits(is_tied: bool) -> None:
    """A head of its own, or one that has packed itself a copy, needs no table."""
    config = change(LLAMA, tie_word_embeddings=is_tied)
    table = blocks(2, config.vocab_size, config.hidden_size, least=-8)
    model = filled(config, table)
    assert model.embed_tokens.weight.dtype == torch.int8
    if is_tied:
        head = Linear(config.hidden_size, config.vocab_size, False, FP32)
        head.load_state_dict({"weight": table})
        head.finish()
        x = torch.randn(3, config.hidden_size)
        assert torch.equal(model.lm_head(x), head(x))


def test_a_head_that_reads_the_table_keeps_it() -> None:
    """Without a packed product the two ends are one tensor, and it is multiplied as float32."""
    config = change(LLAMA, tie_word_embeddings=True)
    table = blocks(3, config.vocab_size, config.hidden_size)
    model = filled(config, table, Unquantized())
    assert equal_bits(model.embed_tokens.weight, table)
    x = torch.randn(3, config.hidden_size)
    assert torch.equal(model.lm_head(x), torch.nn.functional.linear(x, table))


@pytest.mark.real
def test_the_default_model_is_kept_as_its_file_does(default_model: Path) -> None:
    """Q8_0, 30 MB in place of 113, and each of its 28 million numbers as it was."""
    checkpoint = open_checkpoint(default_model)
    model = load_model(checkpoint, "auto", Placement(torch.float32, CPU, "int8"), lambda *_: None)
    assert model.embed_tokens.weight.dtype == torch.int8
    tables = (tensor for name, tensor in checkpoint.tensors() if name == "token_embd.weight")
    table = torch.from_numpy(next(tables).widen())  # Q8_0
    assert equal_bits(model.embed_tokens(torch.arange(len(table))), table)


@pytest.mark.parametrize("name", ["Q4_0", "Q5_1", "Q8_0"])
def test_rows_of_a_file_are_decoded_as_they_are_looked_up(name: str) -> None:
    """To the bits that they have when the whole table is decoded; what is kept is the file's."""
    tensor = stored(name, 40, 512)
    table = Embedding(TablePart(40, 512, Role.EMBEDDINGS), FP32)
    assert table.take_stored(tensor, decode)
    ids = torch.tensor([3, 39, 3, 0])
    assert torch.equal(table(ids), torch.from_numpy(tensor.widen())[ids])
    table.shrink()
    assert table(ids[:0]).shape == (0, 512)
    assert table.weight.numel() == 0
    half = Embedding(TablePart(40, 512, Role.EMBEDDINGS), Placement(torch.bfloat16, CPU))
    assert not half.take_stored(tensor, decode)


def test_any_blocks_of_8_bits_are_kept_apart_from_their_scales() -> None:
    """Those too that no rounding made: -128, no 127, scales below 0."""
    draw = np.random.default_rng(0)
    raw = draw.integers(0, 256, (40, 2, 34), np.uint8)
    raw[..., :2] = np.array([[0.5], [-2.0]], "<f2").view(np.uint8)
    (kind,) = (kind for kind in TENSOR_TYPES.values() if kind.name == "Q8_0")
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (40, 64))
    kept = as_stored(tensor, decode)
    assert isinstance(kept, Blocks)
    table = torch.from_numpy(tensor.widen())
    assert equal_bits(kept.look_up(torch.arange(40)), table)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("name", ["Q4_0", "Q5_1", "Q8_0"])
def test_a_model_keeps_its_table_as_the_file_has_it(name: str, is_tied: bool) -> None:
    """A table in 4 bits takes seven times as much in float32. A head that shares it gets
    its blocks, or reads the numbers."""
    config = change(LLAMA, tie_word_embeddings=is_tied, hidden_size=256)
    table = stored(name, config.vocab_size, 256)
    for method in (RawBlocks(), Unquantized()):
        model = filled(config, table, method)
        is_read = is_tied and (isinstance(method, Unquantized) or name not in FORMATS)
        assert bool(model.embed_tokens.weight.numel()) == is_read
        numbers = torch.from_numpy(table.widen())
        ids = torch.tensor([3, 39, 3, 0])
        assert equal_bits(model.embed_tokens(ids), numbers[ids])
        if is_read:
            x = torch.randn(3, 256)
            assert torch.equal(model.lm_head(x), torch.nn.functional.linear(x, numbers))


def test_a_table_of_16_bits_is_never_widened_whole() -> None:
    table, numbers = Embedding(TablePart(40, 64, Role.EMBEDDINGS), FP32), torch.randn(40, 64)
    assert not table.take_stored(numbers, decode)
    assert table.take_stored(numbers.bfloat16(), decode)
    ids = torch.tensor([3, 39, 3, 0])
    assert torch.equal(table(ids), numbers.bfloat16().float()[ids])
    assert table.weight.numel() == 0
