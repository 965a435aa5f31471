"""The GGUF reader believes nothing: every lie in a file ends in a ModelFormatError, soon."""

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.draws import draws
from tests.weights.gguf_files import ARRAY, STRING, U32, Parts, array, pair, strings, tensor, text
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.format import BOOL
from thirdeye.weights.formats.gguf.reader import GGUFFile, read_gguf


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], GGUFFile]:
    def write_and_read(raw: bytes) -> GGUFFile:
        path = tmp_path / "model.gguf"
        path.write_bytes(raw)
        return read_gguf(path)

    return write_and_read


def metadata(*pairs: bytes) -> bytes:
    return Parts(metadata=list(pairs)).build()


def tensors(*entries: bytes) -> bytes:
    return Parts(tensors=list(entries)).build()


def test_a_valid_file_is_read_whole(read: Callable[[bytes], GGUFFile]) -> None:
    file = read(Parts().build())
    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["some.number"] == 7
    assert file.metadata["some.words"] == ["one", "two", "drei"]
    assert file.metadata["some.array"].tolist() == [1, 2, 3]
    assert file.tensors["first"].shape == (2, 4)
    assert bytes(file.tensor_bytes("first")) == bytes(range(32))
    assert file.tensors["second"].num_bytes == 34


def test_what_was_given_back_can_be_read_again(read: Callable[[bytes], GGUFFile]) -> None:
    file = read(Parts().build())
    before = bytes(file.tensor_bytes("first"))
    file.release()
    assert bytes(file.tensor_bytes("first")) == before


def test_an_array_of_booleans_costs_its_own_bytes(read: Callable[[bytes], GGUFFile]) -> None:
    """Not a Python object each, which is eight times as much: a hostile file is all booleans."""
    size = 4_000_000
    raw = metadata(pair("some.flags", ARRAY, array(BOOL, size, b"\0\1" * (size // 2))))
    tracemalloc.start()
    try:
        flags = read(raw).metadata["some.flags"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert flags[:3].tolist() == [False, True, False]
    assert peak < 2 * size
    with pytest.raises(ModelFormatError, match=r"'some\.flags'.*must be 0 or 1"):
        read(metadata(pair("some.flags", ARRAY, array(BOOL, 3, b"\0\1\2"))))


def test_version_2_is_read_too(read: Callable[[bytes], GGUFFile]) -> None:
    assert len(read(Parts(version=2).build()).tensors) == 2


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    """The oracle: whatever its writer writes, of every value type, we read the same."""
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -5)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 1e-5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("word", "naïve 你好")
    writer.add_array("floats", [0.5, 1.5])
    writer.add_array("flags", [True, False, True])
    writer.add_array("words", ["a", "", "日本"])
    weights = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    writer.add_tensor("cube", weights)
    writer.add_tensor("half", np.ones((3, 5), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = read_gguf(path)
    theirs = gguf.GGUFReader(path)
    for key, theirs_field in theirs.fields.items():
        if key.startswith("GGUF."):
            continue
        ours = file.metadata[key]
        ours = ours.tolist() if isinstance(ours, np.ndarray) else ours
        assert ours == pytest.approx(theirs_field.contents()), key
    assert file.metadata["f32"] == 1e-5, "a float32 reads as its shortest decimal"
    for entry in theirs.tensors:
        info = file.tensors[entry.name]
        assert list(info.shape) == entry.shape.tolist()[::-1]
        assert bytes(file.tensor_bytes(entry.name)) == entry.data.tobytes()


HOSTILE = {
    "empty": b"",
    "magic only": b"GGUF",
    "wrong magic": Parts(magic=b"GGML").build(),
    "version 99": Parts(version=99).build(),
    "version 1": Parts(version=1).build(),
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64),
    "truncated metadata": Parts().build()[:60],
    "2^60 metadata keys": Parts(num_metadata=2**60).build(),
    "2^60 tensors": Parts(num_tensors=2**60).build(),
    "key of 2^63 bytes": metadata(struct.pack("<Q", 2**63)),
    "key of 2^40 bytes": metadata(struct.pack("<Q", 2**40)),
    "string of 2^40 bytes": metadata(pair("k", STRING, struct.pack("<Q", 2**40))),
    "array of 2^60 integers": metadata(pair("k", ARRAY, array(U32, 2**60))),
    "array of 2^60 booleans": metadata(pair("k", ARRAY, array(7, 2**60))),
    "array of 2^61 integers, 2^64 bytes": metadata(pair("k", ARRAY, array(10, 2**61))),
    "nested arrays": metadata(pair("k", ARRAY, array(ARRAY, 1) * 20_000)),
    "2^31 strings": metadata(pair("k", ARRAY, array(STRING, 2**31))),
    "2^31 strings, some there": metadata(pair("k", ARRAY, array(STRING, 2**31, bytes(8 * 10_000)))),
    "5 million strings": metadata(pair("k", ARRAY, array(STRING, 5_000_000, bytes(40_000_000)))),
    "string past the end, in an array": metadata(
        pair("k", ARRAY, array(STRING, 1, struct.pack("<Q", 2**63)))
    ),
    "3 million empty arrays": metadata(
        pair("k", ARRAY, array(ARRAY, 3_000_000, array(U32, 0) * 3_000_000))
    ),
    "value type 77": metadata(pair("k", 77, bytes(8))),
    "element type 77": metadata(pair("k", ARRAY, array(77, 1, bytes(8)))),
    "boolean 2": metadata(pair("k", 7, b"\2")),
    "alignment 0": metadata(pair("general.alignment", U32, struct.pack("<I", 0))),
    "alignment 3": metadata(pair("general.alignment", U32, struct.pack("<I", 3))),
    "alignment 2^31": metadata(pair("general.alignment", U32, struct.pack("<I", 2**31))),
    "alignment a string": metadata(pair("general.alignment", STRING, text("32"))),
    "alignment true": metadata(pair("general.alignment", 7, b"\1")),
    "duplicate key": metadata(*[pair("k", U32, bytes(4))] * 2),
    "key not UTF-8": metadata(pair(b"\xff\xfe", U32, bytes(4))),
    "string not UTF-8": metadata(pair("k", STRING, text(b"\xff"))),
    "string in an array not UTF-8": metadata(pair("k", ARRAY, array(STRING, 1, text(b"\xff")))),
    "tensor past the end": tensors(tensor("a", [1000])),
    "tensor offset past the end": tensors(tensor("a", [4], 0, 2**20)),
    "tensor offset 2^63": tensors(tensor("a", [4], 0, 2**63)),
    "tensor offset 2^64 - 32": tensors(tensor("a", [4], 0, 2**64 - 32)),
    "misaligned tensor": tensors(tensor("a", [4], 0, 4)),
    "dims 2^32 x 2^32": tensors(tensor("a", [2**32, 2**32])),
    "dims 2^33 x (2^31 + 1)": tensors(tensor("a", [2**33, 2**31 + 1])),
    "2^31 dims": tensors(text("a") + struct.pack("<I", 2**31) + bytes(64)),
    "no dims": tensors(text("a") + struct.pack("<IIQ", 0, 0, 0)),
    "5 dims": tensors(tensor("a", [1] * 5)),
    "zero dim": tensors(tensor("a", [4, 0])),
    "tensor type 250": tensors(tensor("a", [4], 250)),
    "tensor type Q8_K": tensors(tensor("a", [256], 15)),
    "duplicate tensor": tensors(tensor("a", [4]), tensor("a", [4], 0, 32)),
    "overlapping tensors": tensors(tensor("a", [12]), tensor("b", [4], 0, 32)),
    "two tensors in one place": tensors(tensor("a", [4]), tensor("b", [4])),
    "tensor name not UTF-8": tensors(text(b"\xff") + struct.pack("<IQIQ", 1, 4, 0, 0)),
    "tensor name of 2^40 bytes": tensors(struct.pack("<Q", 2**40)),
    "row not a multiple of 32": tensors(tensor("a", [33], 2)),
    "row of 16 in a matrix of 32": tensors(tensor("a", [16, 2], 8)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused_at_once(read: Callable[[bytes], GGUFFile], raw: bytes) -> None:
    """The `gguf` package hangs on one of these and gives bare IndexErrors on others."""
    with pytest.raises(ModelFormatError, match=r"model\.gguf"):
        read(raw)


def test_errors_say_where(read: Callable[[bytes], GGUFFile]) -> None:
    """A message names the file, the offset and the field."""
    with pytest.raises(ModelFormatError, match=r"byte \d+, 'a': is stored as Q8_K.*F32, F16, Q4_0"):
        read(tensors(tensor("a", [256], 15)))
    with pytest.raises(ModelFormatError, match=r"'some\.key'.*needs 4 bytes, 0 are left"):
        read(Parts(metadata=[pair("some.key", U32, b"")], tensors=[], data=b"").build()[:44])


def test_missing_files_and_directories(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelFormatError, match="cannot be read"):
            read_gguf(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """Cut anywhere in its first 4,096 bytes, a file is refused: no length is trusted unread."""
    words = pair("words", ARRAY, strings(*[f"word {n}" for n in range(150)]))
    raw = Parts(
        metadata=[words, pair("n", U32, bytes(4))],
        tensors=[tensor(f"t{n}", [8], 0, 32 * n) for n in range(40)],
        data=bytes(32 * 40),
    ).build()
    assert len(raw) > 4096
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    assert len(read_gguf(path).tensors) == 40
    for length in reversed(range(4096)):
        os.truncate(path, length)
        with pytest.raises(ModelFormatError):
            read_gguf(path)


@draws(100, 500, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes changed, to any value: no other exception, no hang, no read outside the file."""
    raw = bytearray(Parts().build())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        raw[position : position + len(patch)] = patch
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    try:
        file = read_gguf(path)
    except ModelFormatError:
        return
    for name, info in file.tensors.items():
        assert len(file.tensor_bytes(name)) == info.num_bytes
