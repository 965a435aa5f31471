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
MAX_STRINGS = 1 << 22  # in all arrays of a file; the largest vocabularies have 2 ** 18 tokens

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


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    8: TensorType("Q8_0", 32, 34),
}

# Types we know by name only, so that the refusal can say what the file holds.
OTHER_TENSOR_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
