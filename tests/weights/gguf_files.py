"""GGUF files written by hand, byte for byte, so that a test can break any one of them."""

import struct
from dataclasses import dataclass, field

U32, STRING, ARRAY = 4, 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + payload


def array(kind: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, length) + payload


def strings(*values: str) -> bytes:
    return array(STRING, len(values), b"".join(text(value) for value in values))


def tensor(name: str, dims: list[int], kind: int = 0, offset: int = 0) -> bytes:
    head = text(name) + struct.pack("<I", len(dims))
    return head + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


@dataclass
class Parts:
    """A valid file of two small tensors, each part of which may be replaced."""

    magic: bytes = b"GGUF"
    version: int = 3
    num_tensors: int | None = None
    num_metadata: int | None = None
    metadata: list[bytes] = field(
        default_factory=lambda: [
            pair("general.architecture", STRING, text("llama")),
            pair("some.number", U32, struct.pack("<I", 7)),
            pair("some.words", ARRAY, strings("one", "two", "drei")),
            pair("some.array", ARRAY, array(U32, 3, struct.pack("<3I", 1, 2, 3))),
        ]
    )
    tensors: list[bytes] = field(
        default_factory=lambda: [tensor("first", [4, 2]), tensor("second", [32], 8, 32)]
    )
    data: bytes = bytes(range(32)) + bytes(34)

    def build(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_metadata = len(self.metadata) if self.num_metadata is None else self.num_metadata
        head = self.magic + struct.pack("<IQQ", self.version, num_tensors, num_metadata)
        head += b"".join(self.metadata) + b"".join(self.tensors)
        return head + bytes(-len(head) % 32) + self.data
