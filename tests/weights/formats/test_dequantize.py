"""Dequantization against two oracles: the definition, weight by weight, and the gguf package."""

import struct

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


SLOWLY = {
    "F32": f32_slowly,
    "F16": f16_slowly,
    "Q4_0": q4_0_slowly,
    "Q4_1": q4_1_slowly,
    "Q8_0": q8_0_slowly,
}


def test_every_type_has_its_twin() -> None:
    assert SLOWLY.keys() == TYPES.keys()


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # in the slow twins
@pytest.mark.parametrize("name", SLOWLY)
@settings(max_examples=60, deadline=None)
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


@pytest.mark.parametrize("name", SLOWLY)
def test_equals_the_gguf_package_over_several_chunks(name: str) -> None:
    """The oracle, on real quantized weights and more blocks than one chunk holds."""
    number, kind = TYPES[name]
    rows = CHUNK + 5
    values = np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float32)
    packed = gguf.quantize(values, gguf.GGMLQuantizationType(number))
    fast = dequantize(memoryview(packed.tobytes()), kind, (rows, 64))
    oracle = gguf.dequantize(packed, gguf.GGMLQuantizationType(number))
    np.testing.assert_array_equal(fast, oracle)
    assert np.abs(fast - values).max() < (0.5 if kind.block_size > 1 else 1e-2)


def test_the_result_is_writable_and_owns_its_memory() -> None:
    """torch warns about read-only memory, and the file may be closed."""
    weights = dequantize(memoryview(bytes(8)), TYPES["F32"][1], (2,))
    weights += 1
    assert weights.tolist() == [1, 1]
