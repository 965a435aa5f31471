"""Dequantization against two oracles: the definition, weight by weight, and the gguf package."""

import struct

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.weights.formats.gguf.dequantize import CHUNK, dequantize
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES

TYPES = {kind.name: (number, kind) for number, kind in TENSOR_TYPES.items()}


def half(raw: bytes) -> np.float32:
    return np.float32(struct.unpack("<e", raw)[0])


def f32_slowly(raw: bytes) -> list[np.float32]:
    return [np.float32(value) for value in struct.unpack(f"<{len(raw) // 4}f", raw)]


def f16_slowly(raw: bytes) -> list[np.float32]:
    return [np.float32(value) for value in struct.unpack(f"<{len(raw) // 2}e", raw)]


def nibbles(raw: bytes) -> list[int]:
    """Low halves first: byte j holds weights j and j + 16."""
    return [byte % 16 for byte in raw] + [byte // 16 for byte in raw]


def q4_0_slowly(raw: bytes) -> list[np.float32]:
    weights = []
    for block in (raw[start : start + 18] for start in range(0, len(raw), 18)):
        weights += [np.float32(q - 8) * half(block[:2]) for q in nibbles(block[2:])]
    return weights


def q4_1_slowly(raw: bytes) -> list[np.float32]:
    weights = []
    for block in (raw[start : start + 20] for start in range(0, len(raw), 20)):
        scale, minimum = half(block[:2]), half(block[2:4])
        weights += [np.float32(q) * scale + minimum for q in nibbles(block[4:])]
    return weights


def q8_0_slowly(raw: bytes) -> list[np.float32]:
    weights = []
    for block in (raw[start : start + 34] for start in range(0, len(raw), 34)):
        weights += [np.float32(q) * half(block[:2]) for q in struct.unpack("<32b", block[2:])]
    return weights


def q1_0_slowly(raw: bytes) -> list[np.float32]:
    weights = []
    for block in (raw[start : start + 18] for start in range(0, len(raw), 18)):
        bits = int.from_bytes(block[2:], "little")
        weights += [np.float32(2 * (bits >> i & 1) - 1) * half(block[:2]) for i in range(128)]
    return weights


def q2_0_slowly(raw: bytes) -> list[np.float32]:
    weights = []
    for block in (raw[start : start + 18] for start in range(0, len(raw), 18)):
        bits = int.from_bytes(block[2:], "little")
        weights += [np.float32((bits >> 2 * i & 3) - 1) * half(block[:2]) for i in range(64)]
    return weights


SLOWLY = {
    "F32": f32_slowly,
    "F16": f16_slowly,
    "Q4_0": q4_0_slowly,
    "Q4_1": q4_1_slowly,
    "Q8_0": q8_0_slowly,
    "Q1_0": q1_0_slowly,
    "Q2_0": q2_0_slowly,
}
ORACLES = {
    name: gguf.GGMLQuantizationType(number)
    for name, (number, _) in TYPES.items()
    if name not in ("Q1_0", "Q2_0")  # newer than the package
}
QUANTIZED_BY_GGUF = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4")


def test_every_type_has_its_twin() -> None:
    assert SLOWLY.keys() | ORACLES.keys() == TYPES.keys()


@pytest.mark.parametrize("name", ORACLES)
def test_every_size_is_the_gguf_package_s(name: str) -> None:
    _, kind = TYPES[name]
    assert gguf.GGML_QUANT_SIZES[ORACLES[name]] == (kind.block_size, kind.block_bytes)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # in the package
@pytest.mark.parametrize("name", ORACLES)
@draws(8, 20)
@given(seed=st.integers(0, 2**32 - 1), num_blocks=st.integers(1, 40))
def test_any_blocks_equal_the_gguf_package_s(name: str, seed: int, num_blocks: int) -> None:
    """Bit for bit, infinities and the sign of nought included."""
    _, kind = TYPES[name]
    raw = np.random.default_rng(seed).integers(0, 256, (num_blocks, kind.block_bytes), np.uint8)
    fast = dequantize(memoryview(raw.tobytes()), kind, (num_blocks, kind.block_size))
    oracle = gguf.dequantize(raw, ORACLES[name]).astype(np.float32).reshape(fast.shape)
    is_nan = np.isnan(oracle)
    np.testing.assert_array_equal(np.isnan(fast), is_nan)
    np.testing.assert_array_equal(fast.view(np.int32)[~is_nan], oracle.view(np.int32)[~is_nan])


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # in the slow twins
@pytest.mark.parametrize("name", SLOWLY)
@draws(15, 60)
@given(st.data())
def test_equals_the_definition_bit_for_bit(name: str, data: st.DataObject) -> None:
    """Any bytes at all, infinities and NaNs included."""
    _, kind = TYPES[name]
    num_blocks = data.draw(st.integers(1, 4))
    size = num_blocks * kind.block_bytes
    raw = data.draw(st.binary(min_size=size, max_size=size))
    fast = dequantize(memoryview(raw), kind, (num_blocks, kind.block_size))
    slow = np.array(SLOWLY[name](raw), np.float32).reshape(fast.shape)
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("name", QUANTIZED_BY_GGUF)
def test_equals_the_gguf_package_over_several_chunks(name: str) -> None:
    """The oracle, on real quantized weights and more blocks than one chunk holds."""
    number, kind = TYPES[name]
    rows = CHUNK // 256 + 5
    values = np.random.default_rng(0).standard_normal((rows, 256)).astype(np.float32)
    packed = gguf.quantize(values, gguf.GGMLQuantizationType(number))
    fast = dequantize(memoryview(packed.tobytes()), kind, (rows, 256))
    oracle = gguf.dequantize(packed, gguf.GGMLQuantizationType(number))
    np.testing.assert_array_equal(fast, oracle)
    assert np.abs(fast - values).max() < (1.5 if kind.block_size > 1 else 2e-2)


def test_the_result_is_writable_and_owns_its_memory() -> None:
    """torch warns about read-only memory, and the file may be closed."""
    weights = dequantize(memoryview(bytes(8)), TYPES["F32"][1], (2,))
    weights += 1
    assert weights.tolist() == [1, 1]
