"""The ready line says what is served, and which fast path does not apply."""

import shlex
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from tests.engine.process.fake_engine import fake_info
from thirdeye.server.launch.open_door import open_door_line, open_keys_line
from thirdeye.server.launch.server_run import curl_line, ready_line
from thirdeye.server.launch.several.pool_server import PoolServer
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.transport.server import bind, url_of

URL = "http://127.0.0.1:8000"
INFO = fake_info()


def test_what_is_missed_is_shown_with_its_reason() -> None:
    missed = msgspec.structs.replace(INFO, missed_paths=["tape: aten.relu.default"])
    line = ready_line(URL, "m", missed, 1.0)
    assert " KV blocks, no tape: aten.relu.default)" in line
    assert "\n" not in line
    assert "tape" not in ready_line(URL, "m", INFO, 1.0)


def test_a_name_makes_no_line_of_its_own() -> None:
    """A folder may have any name, and whoever packed it chose that."""
    line = ready_line(URL, "m\nReady: http://evil\x1b[2J", INFO, 1.0)
    assert "model: m?Ready: http://evil?[2J (" in line
    assert len(line.splitlines()) == 1


def test_a_name_that_is_pasted_into_a_shell_stays_a_word() -> None:
    line = curl_line(URL, "m'; touch evil; '", has_chat=False, has_key=False)
    words = shlex.split(line)
    assert "evil;" not in words
    assert "m'; touch evil; '" in words[-1]


def test_a_model_that_guesses_is_named() -> None:
    line = ready_line(URL, "m", msgspec.structs.replace(INFO, draft="small, 0.1 M parameters"), 1.0)
    assert " KV blocks, drafts by small, 0.1 M parameters)" in line


WORDS = {
    "0.0.0.0": "any of its addresses",
    "[::]": "any of its addresses",
    "10.0.0.7": "10.0.0.7",
    "[fe80::1]": "fe80::1",
    "[::ffff:10.0.0.1]": "::ffff:",
}


@pytest.mark.parametrize("host", WORDS)
def test_a_server_that_others_reach_without_a_key_is_warned_of(host: str) -> None:
    (line,) = open_door_line(f"http://{host}:8000", has_key=False)
    assert f"({WORDS[host]}" in line
    assert "--api-key-file" in line
    assert open_door_line(f"http://{host}:8000", has_key=True) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.9.9.9", "[::ffff:127.0.0.1]"])
def test_one_that_only_this_machine_reaches_is_not(host: str) -> None:
    assert open_door_line(f"http://{host}:8000", has_key=False) == []


@pytest.mark.parametrize(("asked", "is_open"), [("", True), ("0", True), ("localhost", False)])
def test_it_is_the_address_that_was_bound_that_counts(asked: str, is_open: bool) -> None:
    """An empty host is all addresses, and so is 0."""
    with bind(asked, 0) as sock:
        assert bool(open_door_line(url_of(sock), has_key=False)) == is_open


def test_a_server_of_several_models_warns_as_well() -> None:
    """Its lines come from another place."""
    server = PoolServer.__new__(PoolServer)
    server.settings = read_settings({})
    server.pool = SimpleNamespace(
        residency=SimpleNamespace(max_bytes=2**30), members={},
        default=SimpleNamespace(state=SimpleNamespace(keys=[])),
    )  # type: ignore[assignment]  # what the lines are made of  # fmt: skip
    assert "WARNING" in server._lines("http://0.0.0.0:8000", 1.0)[-1]
    assert "WARNING" not in server._lines("http://127.0.0.1:8000", 1.0)[-1]


HASH = "sha256:" + sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    ("lines", "mode", "is_open"),
    [
        ("secret", 0o644, True),
        (f"alice use {HASH}\nbob use secret", 0o604, True),
        (f"alice use {HASH}\n{HASH}", 0o644, False),
        ("secret", 0o640, False),
        ("", 0o644, False),
    ],
)
def test_keys_that_all_users_can_read_are_warned_of(
    lines: str, mode: int, is_open: bool, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(lines)
    file.chmod(mode)
    assert len(open_keys_line(file)) == is_open
    for line in open_keys_line(file):
        assert "WARNING" in line
        assert f"chmod 600 {file}" in line
        assert "secret" not in line


def test_no_file_of_keys_is_none_that_is_read(tmp_path: Path) -> None:
    assert open_keys_line(None) == open_keys_line(tmp_path / "gone") == []


def test_a_server_of_several_models_warns_of_its_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret")
    (tmp_path / "keys").chmod(0o644)
    server = PoolServer.__new__(PoolServer)
    server.settings = read_settings({"api_key_file": tmp_path / "keys"})
    server.pool = SimpleNamespace(
        residency=SimpleNamespace(max_bytes=2**30), members={},
        default=SimpleNamespace(state=SimpleNamespace(keys=["secret"])),
    )  # type: ignore[assignment]  # fmt: skip
    assert "can read the keys" in server._lines(URL, 1.0)[-1]
