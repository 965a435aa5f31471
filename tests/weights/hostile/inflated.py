"""Files whose contents would take many times their size, or very long: each is refused early."""

import json
import struct
from collections.abc import Callable
from typing import Any

from tests.weights.gguf_files import ARRAY, STRING, U32, Parts, array, pair, tensor, text
from tests.weights.hostile.originals import SHARD
from thirdeye.weights.formats.gguf.format import BOOL

MB = 1 << 20
BYTES, DOUBLES = 0, 12  # types of a GGUF array


def gguf_with(*pairs: bytes, tensors: list[bytes] | None = None) -> bytes:
    described = [pair("general.architecture", STRING, text("llama")), *pairs]
    return Parts(metadata=described, tensors=tensors or []).build()


def long_string(size: int) -> bytes:
    return struct.pack("<Q", size) + b"x" * size


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def safetensors_of(header: dict[str, Any]) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw


def lists(size: int) -> bytes:
    return b'{"a":[' + b"[]," * (size // 3) + b"[]]}"


QUICK = ("100 MB of booleans", "60 MB of empty lists", "a large file", "a long template",
         "a header of blanks")  # fmt: skip
INFLATED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "100 MB of booleans": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(BOOL, 100 * MB, bytes(100 * MB)))),
    ),
    "60 MB of bytes": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(BYTES, 60 * MB, bytes(60 * MB)))),
    ),
    "doubles": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(DOUBLES, 12 * MB, bytes(96 * MB)))),
    ),
    "four million empty strings": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(STRING, 4 * MB, bytes(32 * MB)))),
    ),
    "a million strings": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(STRING, MB, struct.pack("<Q8s", 8, b"a") * MB))),
    ),
    "a string of 100 MB": ("GGUF", lambda: gguf_with(pair("x", STRING, long_string(100 * MB)))),
    "an array of one such string": (
        "GGUF",
        lambda: gguf_with(pair("x", ARRAY, array(STRING, 1, long_string(100 * MB)))),
    ),
    "all the tensors there may be": (
        "GGUF",
        lambda: (
            gguf_with(tensors=[tensor(f"t{i}", [32], 0, 128 * i) for i in range(1 << 16)])
            + bytes(128 << 16)
        ),
    ),
    "all the keys there may be": (
        "GGUF",
        lambda: gguf_with(*[pair(f"k{i}", U32, bytes(4)) for i in range(16_000)]),
    ),
    "60 MB of empty lists": ("tokenizer.json", lambda: lists(60 * MB)),
    "the same as a config": ("config.json", lambda: lists(60 * MB)),
    "objects": ("tokenizer.json", lambda: b'{"a":[' + b'{"":0},' * (8 * MB) + b"[]]}"),
    "numbers": ("generation_config.json", lambda: b'{"a":[' + b"300," * (15 * MB) + b"0]}"),
    "a vocabulary of nearly a million": (
        "tokenizer.json",
        lambda: json.dumps({"model": {"vocab": {f"a{i}": i for i in range(800_000)}}}).encode(),
    ),
    "nested without an end": ("tokenizer_config.json", lambda: b"[" * (10 * MB)),
    "a long string": ("tokenizer.json", lambda: b'{"a":"' + b"x" * (60 * MB) + b'"}'),
    "a long template": (
        "tokenizer_config.json",
        lambda: json.dumps({"chat_template": "x" * (30 * MB)}).encode(),
    ),
    "a message of tiny fields": (
        "tokenizer.model",
        lambda: b"\x12" + varint(15 * MB) + b"\x08\x01" * (15 * MB // 2),
    ),
    "tiny fields": ("tokenizer.model", lambda: b"\x28\x01" * (7 * MB)),
    "pieces": ("tokenizer.model", lambda: b"\x0a\x04\x0a\x02ab" * (2 * MB)),
    "a large file": ("tokenizer.model", lambda: bytes(60 * MB)),
    "an index of one shard": (
        "index",
        lambda: json.dumps({"weight_map": {f"x{i}": SHARD for i in range(600_000)}}).encode(),
    ),
    "an index of many shards": (
        "index",
        lambda: json.dumps(
            {"weight_map": {f"x{i}": f"{i}.safetensors" for i in range(600_000)}}
        ).encode(),
    ),
    "a header of many tensors": (
        "safetensors",
        lambda: safetensors_of(
            {
                f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                for i in range(400_000)
            }
        ),
    ),
    "a header of blanks": (
        "safetensors",
        lambda: struct.pack("<Q", 99 * MB) + b"{" + b" " * (99 * MB),
    ),
    "a tensor of many dimensions": (
        "safetensors",
        lambda: safetensors_of(
            {"t": {"dtype": "F32", "shape": [0] * 5_000_000, "data_offsets": [0, 0]}}
        ),
    ),
    "notes in a header": (
        "safetensors",
        lambda: safetensors_of({"__metadata__": {f"t{i}": "" for i in range(1_000_000)}}),
    ),
}
