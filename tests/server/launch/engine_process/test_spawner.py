"""The engine's process is started first, used once, and never left behind."""

import subprocess
import sys

import pytest

from thirdeye.server.engine.process.spawn import spawn
from thirdeye.server.launch.spawner import EngineSpawner, engine_environment

WAITS = [
    sys.executable,
    "-c",
    "import socket, sys; socket.socket(fileno=int(sys.argv[-1])).recv(1)",
]


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> EngineSpawner:
    """One whose children wait for a byte and import nothing."""
    monkeypatch.setattr(EngineSpawner, "_spawn", lambda self: spawn(WAITS))
    return EngineSpawner()


def test_the_first_is_the_one_started_ahead_and_the_next_is_new(spawner: EngineSpawner) -> None:
    with spawner:
        spawner.start_ahead()
        ahead = spawner._ahead
        first, second = spawner(), spawner()
        assert first is ahead
        assert second.process.pid != first.process.pid
    for child in (first, second):  # taken: theirs whoever took them
        assert child.process.poll() is None
        child.kill()


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_one_that_nobody_took_is_ended(spawner: EngineSpawner, is_cancelled: bool) -> None:
    """A wrong option, a port in use, `--engine thread`: no process stays, not even a zombie."""
    with spawner:
        spawner.start_ahead()
        assert spawner._ahead is not None
        process = spawner._ahead.process
        if is_cancelled:
            spawner.cancel()
    assert process.poll() is not None
    assert spawner._ahead is None


def test_a_child_ends_with_our_end_of_the_socket() -> None:
    child = spawn(WAITS)
    child.sock.close()
    assert child.process.wait(10) == 0


def test_a_program_that_is_not_there_leaves_no_socket() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["/nowhere/to/be/found"])


def test_it_imports_little() -> None:
    """What is imported before the process starts delays its start."""
    heavy = ("torch", "fastapi", "pydantic", "asyncio", "numpy", "msgspec")
    code = (
        "import sys, thirdeye.server.launch.commands.serve_command; "
        f"sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_waiting_threads_spin_a_little_unless_told_otherwise(monkeypatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert engine_environment()["GOMP_SPINCOUNT"] == "20000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert "GOMP_SPINCOUNT" not in engine_environment()
