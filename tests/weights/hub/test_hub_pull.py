"""Pulling from a hub: the right files, every byte checked, and each fault in one line."""

import errno
import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import msgspec
import pytest

from tests.weights.hub.fake_hub import COMMIT, FakeHub, FakeRepository, running_hub
from thirdeye.server import logs
from thirdeye.server.launch.commands import pull_command
from thirdeye.server.launch.commands.info_command import show_info
from thirdeye.server.launch.commands.pull_command import pull_model
from thirdeye.server.launch.server_run import make_present
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.weights import storage
from thirdeye.weights.errors import ModelError, ModelNotFound, PullError
from thirdeye.weights.hub import hub_client
from thirdeye.weights.hub.chosen_files import RepositoryFile
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.hub.hub_pull import PulledModel, pull_hub_model
from thirdeye.weights.hub.hub_store import find_hub_model, read_record, write_record
from thirdeye.weights.inventory import files_to_remove, list_models, remove
from thirdeye.weights.paths import models_directory

WEIGHTS = bytes(range(256)) * 40
SMALL = b"GGUF" + WEIGHTS
GGUFS = {
    "README.md": b"# a model",
    "model-Q4_K_M.gguf": SMALL,
    "model-Q8_0.gguf": SMALL * 2,
    "big/model-BF16-00001-of-00002.gguf": SMALL + b"1",
    "big/model-BF16-00002-of-00002.gguf": SMALL + b"2",
}
SHARDED = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": WEIGHTS + b"1",
    "model-00002-of-00002.safetensors": WEIGHTS + b"2",
    "model.safetensors.index.json": b"{}",
    "pytorch_model.bin": WEIGHTS,
    "tokenizer.json": WEIGHTS + b"t",
    "modeling_custom.py": b"raise SystemExit",
}
FILES = HubName("org/files")
SHARDS = HubName("org/shards")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    patient = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.file_download.time", patient)
    monkeypatch.setattr(hub_client, "CHUNK", 1000)
    with running_hub() as hub:
        aim_at(hub.url, monkeypatch)
        hub.repositories["org/files"] = FakeRepository(dict(GGUFS))
        hub.repositories["org/shards"] = FakeRepository(dict(SHARDED))
        yield hub


def aim_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads HF_ENDPOINT once, when it is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def folder() -> Path:
    return models_directory() / "hub" / "org--files"


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_default_is_fetched_and_found(hub: FakeHub) -> None:
    seen: list[tuple[str, int, int]] = []
    pulled = pull_hub_model(FILES, lambda *step: seen.append(step))
    path = folder() / "model-Q4_K_M.gguf"
    assert pulled == PulledModel(path, "Q4_K_M", COMMIT, len(SMALL), len(SMALL))
    assert path.read_bytes() == SMALL
    assert ("download", len(SMALL), len(SMALL)) in seen
    assert find_hub_model(FILES) == path
    assert find_hub_model(replace(FILES, quantization="q4_k_m")) == path
    assert find_hub_model(replace(FILES, quantization="Q8_0")) is None
    assert find_hub_model(replace(FILES, revision="v1")) is None


def test_nothing_comes_twice(hub: FakeHub) -> None:
    pull_hub_model(FILES)
    assert pull_hub_model(FILES).num_fetched == 0
    assert len(hub.asked_for(".gguf")) == 2  # the redirection, and the file


def test_parts_are_one_model(hub: FakeHub) -> None:
    pulled = pull_hub_model(replace(FILES, quantization="bf16"))
    first, second = (folder() / f"big/model-BF16-0000{i}-of-00002.gguf" for i in (1, 2))
    assert pulled.path == first
    assert (first.read_bytes(), second.read_bytes()) == (SMALL + b"1", SMALL + b"2")
    second.unlink()
    assert find_hub_model(replace(FILES, quantization="bf16")) is None


def test_safetensors_without_pickles_and_code(hub: FakeHub) -> None:
    pulled = pull_hub_model(SHARDS)
    names = {path.name for path in pulled.path.iterdir() if not path.name.startswith(".")}
    left_out = {"pytorch_model.bin", "modeling_custom.py"}
    assert names == SHARDED.keys() - left_out | {"hub.json"}
    assert find_hub_model(SHARDS) == pulled.path


def test_shards_that_a_newer_commit_lacks_go(hub: FakeHub) -> None:
    pull_hub_model(SHARDS)
    files = {name: raw for name, raw in SHARDED.items() if "00002" not in name}
    files["model.safetensors"] = WEIGHTS + b"3"
    hub.repositories["org/shards"] = FakeRepository(files, commit="d" * 40)
    pulled = pull_hub_model(SHARDS)
    assert [path.name for path in pulled.path.glob("*.safetensors")] == ["model.safetensors"]
    assert pulled.commit == "d" * 40


def test_a_cut_connection_goes_on_where_it_stopped(hub: FakeHub) -> None:
    """Within one run: by the hub's client if its version does so, else by us."""
    hub.cuts = [4000]
    assert pull_hub_model(FILES).path.read_bytes() == SMALL
    assert "bytes=4000-" in hub.asked_for("Q4_K_M.gguf")


def test_an_interrupted_pull_goes_on_in_the_next_run(hub: FakeHub) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_hub_model(FILES, interrupt)
    assert find_hub_model(FILES) is None
    ((name, kind),) = [(entry.name, entry.format) for entry in list_models()[1:]]
    assert (name, kind) == ("org/files", "unfinished")
    hub.asked.clear()
    assert pull_hub_model(FILES).path.read_bytes() == SMALL
    assert "bytes=1000-" in hub.asked_for("Q4_K_M.gguf")


def test_a_hub_that_ignores_ranges(hub: FakeHub) -> None:
    hub.cuts, hub.ignores_ranges = [4000], True
    assert pull_hub_model(FILES).path.read_bytes() == SMALL


def test_a_line_that_stays_down_keeps_what_has_come(hub: FakeHub) -> None:
    hub.cuts = [4000] + [0] * 20
    with pytest.raises(PullError, match=r"does not reach .*what has come is kept") as error:
        pull_hub_model(FILES)
    assert one_line(error)
    (partial,) = (path for path in (folder() / ".partial").iterdir() if path.name != "lock")
    assert partial.stat().st_size == 4000


def test_wrong_bytes_are_never_a_model(hub: FakeHub) -> None:
    hub.spoilt = {"model-Q4_K_M.gguf"}
    with pytest.raises(PullError, match=r"came for model-Q4_K_M\.gguf does not have the hash"):
        pull_hub_model(FILES)
    assert find_hub_model(FILES) is None
    hub.spoilt = set()
    assert pull_hub_model(FILES).path.read_bytes() == SMALL


def test_wrong_bytes_of_a_small_file(hub: FakeHub) -> None:
    """Git names its contents by SHA-1; there is no other hash of it."""
    hub.spoilt = {"config.json"}
    with pytest.raises(PullError, match=r"config\.json does not have the hash"):
        pull_hub_model(SHARDS)


def test_a_damaged_file_is_found_and_repaired(hub: FakeHub) -> None:
    path = pull_hub_model(FILES).path
    path.write_bytes(SMALL[:-1] + b"?")
    assert pull_hub_model(FILES).num_fetched == len(SMALL)
    assert path.read_bytes() == SMALL


def test_a_damaged_file_is_not_served_when_the_repair_fails(hub: FakeHub) -> None:
    """Nor said to be: the commit is the one that was recorded, so its bytes are known."""
    path = pull_hub_model(FILES).path
    other = pull_hub_model(replace(FILES, quantization="Q8_0")).path
    path.write_bytes(SMALL[:-1] + b"?")
    hub.spoilt = {"model-Q4_K_M.gguf"}
    with pytest.raises(PullError, match="hash"):
        pull_hub_model(FILES)
    assert find_hub_model(replace(FILES, quantization="Q4_K_M")) is None
    assert find_hub_model(replace(FILES, quantization="Q8_0")) == other
    hub.spoilt = set()
    assert pull_hub_model(FILES).path.read_bytes() == SMALL


def test_a_failed_update_leaves_what_was_there(hub: FakeHub) -> None:
    path = pull_hub_model(FILES).path
    new = dict(GGUFS, **{"model-Q4_K_M.gguf": SMALL[::-1]})
    hub.repositories["org/files"] = FakeRepository(new, commit="d" * 40)
    hub.spoilt = {"model-Q4_K_M.gguf"}
    with pytest.raises(PullError, match="hash"):
        pull_hub_model(FILES)
    assert (find_hub_model(FILES), path.read_bytes()) == (path, SMALL)


def test_a_revision_has_a_folder_of_its_own(hub: FakeHub) -> None:
    name = replace(FILES, revision="v1")
    assert pull_hub_model(name).path.parent == folder().with_name("org--files@v1")
    assert find_hub_model(FILES) is None
    assert list_models()[1].name == "org/files:Q4_K_M@v1"


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/files"].token = "hf_secret"
    with pytest.raises(ModelNotFound, match=r"no model 'org/files'; if it is private.*HF_TOKEN"):
        pull_hub_model(FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert pull_hub_model(FILES).path.read_bytes() == SMALL
    shown = {path.split("/")[2]: token for path, _, token in hub.asked if "lfs" in path}
    assert shown == {"lfs": None}


REFUSED = {
    "unknown": ("org/none", {}, "the hub has no model 'org/none'"),
    "revision": ("org/files", {"revision": "v9"}, "org/files has no revision 'v9'"),
    "quantization": (
        "org/files",
        {"quantization": "Q2_K"},
        r"no quantization 'Q2_K'; it has Q4_K_M \(0 MB\), Q8_0 \(0 MB\), BF16 \(0 MB\)\.",
    ),
    "file": ("org/files", {"file": "a.gguf"}, r"no file 'a\.gguf'; it has model-Q4_K_M\.gguf, "),
    "no GGUF": ("org/shards", {"quantization": "Q4_0"}, r"no GGUF files; leave ':Q4_0' away"),
    "gated": ("org/gated", {}, r"org/gated is gated: accept its terms at .*hf auth login"),
    "pickles": ("org/pickles", {}, r"neither \.safetensors nor \.gguf files"),
    "no such name": ("a--b/c..d", {}, r"a--b/c\.\.d"),
}


@pytest.mark.parametrize(("repository", "change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_had(
    hub: FakeHub, repository: str, change: dict[str, str], message: str
) -> None:
    hub.repositories["org/gated"] = FakeRepository(dict(GGUFS), gated=True)
    hub.repositories["org/pickles"] = FakeRepository({"pytorch_model.bin": WEIGHTS})
    with pytest.raises(ModelError, match=message) as error:
        pull_hub_model(replace(HubName(repository), **change))
    assert one_line(error)
    assert not list(models_directory().rglob("*.gguf"))


@pytest.mark.parametrize("status", [401, 403, 418, 429, 500])
def test_a_hub_that_answers_with_an_error(hub: FakeHub, status: int) -> None:
    hub.status = status
    with pytest.raises(ModelError) as error:
        pull_hub_model(FILES)
    assert one_line(error)


def test_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    aim_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(PullError, match=r"does not reach http://127\.0\.0\.1:9") as error:
        pull_hub_model(FILES)
    assert one_line(error)


def test_no_room_is_told_before_anything_is_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=len(SMALL) - 1)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PullError, match=f"no room for org/files .*needs {len(SMALL):,} bytes"):
        pull_hub_model(FILES)
    assert hub.asked_for(".gguf") == []


def test_a_disk_that_fills_up_underway(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_client, "WatchedFile", fill)
    with pytest.raises(PullError, match="no room for org/files"):
        pull_hub_model(FILES)


def test_paths_that_leave_the_folder_are_not_files(hub: FakeHub) -> None:
    for path in ("../evil.gguf", "/evil.gguf", "a//evil.gguf", "..\\evil.gguf", "c:evil.gguf"):
        hub.repositories["org/files"].files = {path: SMALL}
        with pytest.raises(ModelNotFound, match="neither"):
            pull_hub_model(FILES)


def test_the_list_and_rm(hub: FakeHub) -> None:
    """Each quantization is a model of its own; with the last one, the folder goes."""
    pull_hub_model(FILES)
    pull_hub_model(replace(FILES, quantization="BF16"))
    pull_hub_model(SHARDS)
    listed = {entry.name: (entry.format, entry.size_bytes) for entry in list_models()[1:]}
    shards = sum(len(raw) for name, raw in SHARDED.items() if "_" not in name)
    assert listed == {
        "org/files:Q4_K_M": ("GGUF Q4_K_M", len(SMALL)),
        "org/files:BF16": ("GGUF BF16", 2 * len(SMALL) + 2),
        "org/shards": ("safetensors", shards),
    }
    remove(files_to_remove("org/files:BF16"))
    assert [path.name for path in folder().rglob("*.gguf")] == ["model-Q4_K_M.gguf"]
    remove(files_to_remove("org/files:Q4_K_M"))
    remove(files_to_remove("org/shards"))
    assert list((models_directory() / "hub").iterdir()) == []


def test_no_address_is_logged(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    """`serve` logs at the level info; where a large file lies is signed for whoever knows it."""
    logs.configure("info")
    with caplog.at_level(logging.INFO):
        pull_hub_model(FILES)
    assert hub.url.rpartition(":")[2] not in caplog.text


def test_two_pulls_at_once(hub: FakeHub) -> None:
    def again(step: str, done: int, total: int) -> None:
        with pytest.raises(PullError, match="another process is fetching org/files"):
            pull_hub_model(FILES)

    pull_hub_model(FILES, again)


def test_a_token_file_that_cannot_be_read(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client reads it before it asks the hub."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "x" * 5000)
    with pytest.raises(PullError, match=r"File name too long.* See HF_HOME, HF_TOKEN_PATH"):
        pull_hub_model(FILES)


def test_without_the_package(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelNotFound, match="-m pip install huggingface_hub"):
        pull_hub_model(FILES)


def test_the_commands(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pull` says what came, `serve` fetches what is not here; without a hub both open it."""
    monkeypatch.setattr(pull_command, "native_status", lambda: "")
    assert make_present(CheckpointSettings(model="org/shards"))
    assert find_hub_model(SHARDS) is not None
    capsys.readouterr()
    assert pull_model("org/files:q8_0", if_missing=False) == 0
    shown = capsys.readouterr().out
    assert re.search(r"q8_0 \(Q8_0, 0 MB, commit c{10}\): 0 MB fetched, hashes are right", shown)
    aim_at("http://127.0.0.1:9", monkeypatch)
    assert pull_model("org/files:q8_0", if_missing=False) == 1
    assert "What was fetched before can still be served: " in capsys.readouterr().err
    assert pull_model("org/files:q8_0", if_missing=True) == 0
    assert show_info("org/files:q8_0") == 1
    assert "model-Q8_0.gguf" in capsys.readouterr().out
    assert show_info("org/files:Q4_K_M") == 1
    assert "Run 'thirdeye pull org/files:Q4_K_M'" in capsys.readouterr().err
    asked = CheckpointSettings(model="org/files:q8_0")
    assert make_present(asked)
    assert not make_present(replace(asked, hf_file="model-Q4_K_M.gguf"))


@pytest.mark.parametrize("link", ["big", ".partial"])
def test_nothing_is_written_through_a_link(hub: FakeHub, tmp_path: Path, link: str) -> None:
    """Of a subfolder, or of the place for what has not come yet."""
    outside = tmp_path / "outside"
    outside.mkdir()
    folder().mkdir(parents=True)
    (folder() / link).symlink_to(outside)
    with pytest.raises(PullError) as raised:
        pull_hub_model(replace(FILES, quantization="bf16"))
    assert f"{folder() / link} leads out of {folder()}" in one_line(raised)
    assert list(outside.iterdir()) == []


def test_no_file_is_written_through_a_link(hub: FakeHub, tmp_path: Path) -> None:
    """That has the name of one, of what has come of it, of the record or of the lock."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (folder() / ".partial").mkdir(parents=True)
    key = hashlib.sha256(SMALL).hexdigest()
    partials = (f".partial/{key}", ".partial/lock")
    for name in ("model-Q4_K_M.gguf", "hub.json", ".hub.json", *partials):
        (folder() / name).symlink_to(precious)
    assert pull_hub_model(FILES).path.read_bytes() == SMALL
    assert find_hub_model(FILES) == folder() / "model-Q4_K_M.gguf"
    assert precious.read_bytes() == b"precious"


def test_a_file_elsewhere_that_was_on_record_is_left(hub: FakeHub, tmp_path: Path) -> None:
    """A shard that this commit does not have, in a folder that is a link."""
    place = pull_hub_model(SHARDS).path
    (place / "more").symlink_to(tmp_path)
    (tmp_path / "precious.safetensors").write_bytes(WEIGHTS)
    record = read_record(place)
    assert record is not None
    path = "more/precious.safetensors"
    files = record.files | {path: RepositoryFile(path, len(WEIGHTS))}
    write_record(place, msgspec.structs.replace(record, files=files))
    pull_hub_model(SHARDS)
    assert (tmp_path / "precious.safetensors").read_bytes() == WEIGHTS
    left = read_record(place)
    assert left is not None
    assert path not in left.files
