"""Hostile safetensors files and indices: refused, and never read from outside the directory."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.draws import draws
from tests.weights import tiny
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.safetensors import list_tensors
from thirdeye.weights.formats.shards import INDEX, find_shards


def file(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "empty": b"",
    "header of 2^63 bytes": file({}, length=2**63),
    "header above 100 MB": file({}, length=200_000_000),
    "truncated data": file({"a": entry()}, bytes(7)),
    "overlap": file({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "gap": file({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "trailing bytes": file({"a": entry()}, bytes(9)),
    "shape does not match": file({"a": entry(shape=(3,))}),
    "shape overflows": file({"a": entry(shape=(2**32, 2**32))}),
    "negative offset": file({"a": entry(offsets=(-8, 0))}),
    "end before start": file({"a": entry(offsets=(8, 0))}),
    "deep JSON": file(b'{"a":' * 100_000),
    "NaN": file(b'{"a": NaN}'),
    "unknown dtype": file({"a": entry(dtype="F31")}),
    "not an object": file(b"[]"),
    "not UTF-8": file(b'{"\xff": {}}'),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        list_tensors(find_shards(Directory(tmp_path)))


@draws(60, 300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(file({"a": entry(), "b": entry(offsets=(8, 16))}, bytes(16)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        raw[position : position + len(patch)] = patch
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)  # a mapped file must not change: each example gets its own
    path.write_bytes(raw)
    try:
        for tensor in list_tensors([path]).values():
            tensor.check_dtype()
            tensor.read()
    except ModelFormatError:
        return


def test_a_name_is_never_a_path(tmp_path: Path) -> None:
    """A tensor may be called anything; the loader then has no place for it."""
    path = tiny.save(tiny.llama(), tmp_path / "llama")
    save_file({"../../etc/passwd": torch.zeros(1)}, path / "model.safetensors")
    checkpoint = open_checkpoint(path)
    assert checkpoint.targets("../../etc/passwd") is None


def test_dtypes_we_do_not_read_are_refused_by_name(tmp_path: Path) -> None:
    path = tiny.save(tiny.llama(), tmp_path / "llama")
    save_file({"model.norm.weight": torch.zeros(32, dtype=torch.int8)}, path / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"'model\.norm\.weight': dtype I8.*F32, F16, BF16"):
        list(open_checkpoint(path).tensors())


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    path = tiny.save(tiny.llama(), tmp_path / "llama")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match=r"Pickled checkpoints.*not supported"):
        open_checkpoint(path)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny.save(tiny.llama(), tmp_path / "llama", max_shard_size="20KB")


def rewrite_index(path: Path, weight_map: Any) -> None:
    (path / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "/tmp/x.safetensors", "sub/x.safetensors", "..", "",
     "missing.safetensors", "config.json", "..\\x.safetensors", "\0.safetensors",
     "x" * 5000 + ".safetensors",
     "loop.safetensors", 3, None],
)  # fmt: skip
def test_index_paths_stay_inside(sharded: Path, name: object) -> None:
    save_file({"x": torch.zeros(1)}, sharded.parent / "outside.safetensors")
    (sharded / "loop.safetensors").symlink_to("loop.safetensors")
    rewrite_index(sharded, {"model.norm.weight": name})
    with pytest.raises(ModelFormatError, match=r"weight_map|the file name"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("weight_map", [None, [], "x", 3])
def test_an_index_must_be_a_map(sharded: Path, weight_map: object) -> None:
    rewrite_index(sharded, weight_map)
    with pytest.raises(ModelFormatError, match="weight_map"):
        open_checkpoint(sharded)


def test_an_empty_index_says_so(sharded: Path) -> None:
    rewrite_index(sharded, {})
    with pytest.raises(ModelFormatError, match=r"'weight_map': is empty\. Fetch the index again"):
        open_checkpoint(sharded)


def test_an_index_may_not_name_what_no_shard_holds(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())["weight_map"]
    rewrite_index(sharded, index | {"model.extra": next(iter(index.values()))})
    with pytest.raises(ModelFormatError, match=r"'model\.extra': is in the index, but in no shard"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    path = tiny.save(tiny.llama(), tmp_path / "llama")
    raw = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").rename(path / "a.safetensors")
    (path / "b.safetensors").write_bytes(raw)
    with pytest.raises(ModelFormatError, match=r"is in a\.safetensors too"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_links_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = tiny.save(tiny.llama(), tmp_path / "llama")
    outside = tmp_path / "outside"
    outside.write_bytes((path / name).read_bytes() if (path / name).exists() else b"{}")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(outside)
    with pytest.raises(ModelFormatError, match="leads out of the directory"):
        open_checkpoint(path)


def test_a_hub_snapshot_links_into_its_own_blobs(tmp_path: Path) -> None:
    """The hub's cache is made of links into `blobs` of the same repository."""
    repository = tmp_path / "models--org--tiny"
    snapshot = repository / "snapshots" / "abc123"
    tiny.save(tiny.llama(), snapshot)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        blob = repository / "blobs" / str(number)
        path.rename(blob)
        path.symlink_to(Path("../../blobs") / str(number))
    checkpoint = open_checkpoint(snapshot)
    assert checkpoint.name == "org/tiny"
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(ModelFormatError, match="leads out of the directory"):
        open_checkpoint(snapshot)
