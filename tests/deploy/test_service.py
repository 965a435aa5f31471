"""The unit of systemd: what it names exists, and it is as shut in as its page says."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tests.deploy.promql import DEPLOY
from thirdeye.server.settings.settings import all_settings

UNIT = DEPLOY / "thirdeye.service"
MAX_EXPOSURE = 2.0  # of 10: "OK"; nginx's own unit has over 9


def directives() -> dict[str, list[str]]:
    """Of [Service], each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().split("[Service]")[1].split("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_its_variables_are_settings() -> None:
    named = set(re.findall(r"THIRDEYE_[A-Z_]+\b(?==)", UNIT.read_text()))
    assert named
    assert named <= {row.variable for row in all_settings()}


def test_a_drain_has_its_time() -> None:
    (drain,) = (row.default for row in all_settings() if row.name == "drain_timeout")
    assert isinstance(drain, float)
    assert float(directives()["TimeoutStopSec"][0]) > drain + 5
    assert directives()["KillMode"] == ["mixed"], "the engine is not to be signalled first"
    assert directives()["OOMPolicy"] == ["continue"], "an engine that is killed is replaced"


def test_the_keys_are_read_again() -> None:
    """By the shell's own `kill`: small systems have no program of this name."""
    assert directives()["ExecReload"] == ["/bin/sh -c 'kill -HUP ${MAINPID}'"]


def test_it_writes_its_cache_alone() -> None:
    """XDG_CACHE_HOME and the directory's name together are where the cache lies."""
    found = directives()
    assert found["ProtectSystem"] == ["strict"]
    assert found["CacheDirectory"] == ["thirdeye"]
    assert any("XDG_CACHE_HOME=/var/cache " in value for value in found["Environment"])
    assert not {"ReadWritePaths", "StateDirectory", "LogsDirectory"} & found.keys()
    assert found["CapabilityBoundingSet"] == [""]


def test_processes_may_give_way() -> None:
    """What tries grammars does for good, a model that loads for a while."""
    found = directives()
    assert "setpriority" in found["SystemCallFilter"][-1].split()
    assert found["LimitNICE"] == ["+0"]


def adapted(folder: Path) -> Path:
    """With a program that there is here."""
    text = UNIT.read_text().replace("/opt/thirdeye/bin/thirdeye", "/bin/true")
    path = folder / UNIT.name
    path.write_text(text)
    return path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path) -> None:
    path = adapted(tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, about_it) == (0, [])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", path], capture_output=True, text=True
    )
    match = re.search(r"exposure level for thirdeye\.service: ([\d.]+)", done.stdout)
    assert match, done.stderr
    assert float(match[1]) <= MAX_EXPOSURE


def test_it_is_a_file_that_a_parser_reads() -> None:
    parser = RawConfigParser(strict=False)
    parser.read_string(UNIT.read_text())
    assert parser.sections() == ["Unit", "Service", "Install"]
