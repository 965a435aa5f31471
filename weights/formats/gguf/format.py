"""The numbers of the GGUF format, and our own limits on them.

Source: the GGUF specification in ggml's documentation. The limits are ours: real files stay far
below them, and they bound the time and memory a hostile file can cost.
"""

from dataclasses import dataclass

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

MAX_METADATA = 1 << 14  # key-value pairs
MAX_TENSORS = 1 << 16
MAX_DIMS = 4
MAX_NAME_BYTES = 1 << 10  # of a key or a tensor
MAX_ALIGNMENT = 1 << 20
MAX_STRINGS = 1 << 20  # in all arrays of a file; 2 ** 18 tokens have 2 ** 19 merges
MAX_DESCRIPTION_BYTES = 1 << 26  # metadata and tensor table; the largest vocabularies take 20 MB

FLOAT32, BOOL, STRING, ARRAY = 6, 7, 8, 9

# Value type -> numpy's spelling of it, little-endian.
SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorType:
    """`block_size` weights are stored together in `block_bytes` bytes."""

    name: str
    block_size: int
    block_bytes: int


# The number of a tensor's type in a file -> what it is.
TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}

# Types that are no weights' (integers, and what products are computed in), known by name only, so
# that the refusal can say what the file holds.
OTHER_TENSOR_TYPES = {
    9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
}  # fmt: skip
