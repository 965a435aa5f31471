"""A model in several GGUF files, and one whose file has no suffix: the same tensors and tokens."""

import shutil
import struct
from pathlib import Path

import gguf
import pytest
import torch

from tests.weights import tiny
from tests.weights.sinks import RecordingSink
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import load_weights


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return tiny.llama_gguf(tiny.llama(), tmp_path / "whole.gguf")


@pytest.fixture
def parts(tmp_path: Path, whole: Path) -> list[Path]:
    """Split by the gguf package itself, seven tensors a file."""
    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(tmp_path / "split.gguf", "llama", split_max_tensors=7)
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    tiny.finished(writer, tmp_path / "split.gguf")
    found = sorted(tmp_path.glob("split-*.gguf"))
    assert len(found) == 3
    return found


def loaded(checkpoint: Checkpoint) -> RecordingSink:
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    return sink


def test_parts_are_one_model(whole: Path, parts: list[Path]) -> None:
    one, several = open_checkpoint(whole), open_checkpoint(parts[0])
    assert several.config == one.config
    assert several.name == "split"
    assert several.tensor_sizes() == one.tensor_sizes()
    expected, got = loaded(one).loaded, loaded(several).loaded
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_another_part_s_bytes_change_the_fingerprint(parts: list[Path]) -> None:
    before = open_checkpoint(parts[0]).fingerprint
    raw = bytearray(parts[2].read_bytes())
    raw[-1] ^= 1
    parts[2].write_bytes(raw)
    assert open_checkpoint(parts[0]).fingerprint != before


def test_a_part_that_is_missing(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(ModelFormatError, match=r"split-00002-of-00003\.gguf: cannot be read"):
        open_checkpoint(parts[0])


def test_a_part_that_is_not_the_first(parts: list[Path]) -> None:
    with pytest.raises(ModelFormatError, match=r"part 2: name the first, split-00001-of-00003"):
        open_checkpoint(parts[1])


def test_a_part_under_another_name(parts: list[Path]) -> None:
    other = parts[0].rename(parts[0].with_name("model.gguf"))
    with pytest.raises(ModelFormatError, match=r"part 1 of 3; its name must end in '-00001-of-000"):
        open_checkpoint(other)


def test_a_part_twice(parts: list[Path]) -> None:
    shutil.copy(parts[1], parts[2])
    with pytest.raises(ModelFormatError, match="stands in another part too"):
        open_checkpoint(parts[0])


def test_fewer_tensors_than_told(parts: list[Path]) -> None:
    raw = parts[0].read_bytes()
    key = b"split.tensors.count" + struct.pack("<I", gguf.GGUFValueType.INT32)
    at = raw.index(key) + len(key)
    (count,) = struct.unpack_from("<i", raw, at)
    parts[0].write_bytes(raw[:at] + struct.pack("<i", count + 1) + raw[at + 4 :])
    with pytest.raises(
        ModelFormatError, match=rf"says {count + 1} tensors, the parts hold {count}"
    ):
        open_checkpoint(parts[0])


def test_a_file_is_known_by_its_first_bytes(whole: Path) -> None:
    """Ollama names what it keeps by its hash."""
    blob = whole.rename(whole.with_name("sha256-0123"))
    assert open_checkpoint(blob).config.architecture == "llama"
