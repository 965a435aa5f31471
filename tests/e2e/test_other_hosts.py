"""`thirdeye rank`: one model over two hosts, as two loopback addresses of this one; in
`make prove` two network namespaces, joined by a cable that can be cut."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.in_process import served_here
from tests.e2e.live import LiveServer
from tests.e2e.procfs import HANGS, children, is_running, runs_module, seconds_until
from tests.e2e.test_ranks import RANK, complete, listening
from tests.tiny import tiny_llama
from thirdeye.model.parallel.interfaces import interface_of

SECRET = "correct horse battery staple"


class OtherHost:
    """`thirdeye rank` of another host, and what it says."""

    def __init__(self, *args: str, within: tuple[str, ...] = ()) -> None:
        self.output = ""
        argv = [*within, sys.executable, "-P", "-m", "thirdeye.server.cli", "rank", *args]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def ranks(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if runs_module(pid, RANK)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status. Nothing is left behind, also where it was stopped before."""
        self.process.send_signal(number)
        code = self.process.wait(HANGS)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    """Two hosts' copies of one model, each at its own place."""
    here, there = tmp_path / "here", tmp_path / "there"
    for path in (here, there):
        path.mkdir()
        tiny_llama(path)
    return here, there


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])


def serve(model: Path, secret: Path, address: str, *more: str) -> LiveServer:
    args = [str(model), "--served-model-name", "tiny", "--tensor-parallel", "2"]
    args += ["--remote-ranks", "1", "--rank-address", address, "--rank-secret-file", str(secret)]
    return LiveServer([*args, *more])


@contextlib.contextmanager
def started_together(server: LiveServer) -> Iterator[threading.Thread]:
    """The server waits for ranks that are not there yet: whoever starts it waits as well."""
    failures: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.timeout(900)  # two engines of two ranks start
def test_two_hosts_answer_as_one(checkpoints: tuple[Path, Path], secret: Path) -> None:
    """The same answer as one rank's; only the chosen address listens; whoever has another secret
    is told so and ends; a rank that dies is the engine's death, and the next engine takes it in
    again; both end when they are told to."""
    here, there = checkpoints
    with served_here(here) as url:
        expected = complete(url).json()["choices"][0]["text"]
    address = f"127.0.0.2:{free_port('127.0.0.2')}"
    server = serve(here, secret, address)
    join = ["--join", address, "--secret-file", str(secret)]
    host = None
    try:
        with started_together(server):
            seconds_until(lambda: f"thirdeye rank MODEL --join {address}" in server.output)
            wrong = secret.with_name("wrong")
            wrong.write_text(SECRET[::-1])
            wrong.chmod(0o600)
            stranger = OtherHost(str(there), "--join", address, "--secret-file", str(wrong))
            seconds_until(lambda: stranger.process.poll() is not None)
            assert stranger.stop() == 1
            assert "does not take this rank: its secret is another" in stranger.output
            host = OtherHost(str(there), *join)
        assert complete(server.url).json()["choices"][0]["text"] == expected
        (engine,), (rank,) = server.engines(), host.ranks()
        assert set(listening(engine)) | set(listening(rank)) <= {"0200007F", "0100007F"}
        os.kill(rank, signal.SIGKILL)
        seconds_until(lambda: "Rank 1 on 127.0.0.1 has gone away" in server.output)
        seconds_until(lambda: "the engine is back" in server.output)
        assert complete(server.url).json()["choices"][0]["text"] == expected
        (rank,) = host.ranks()
        assert server.stop() == 0, server.output
        seconds_until(lambda: not is_running(rank))
        seconds_until(lambda: host.output.count("looking for rank 0") == 3)
        assert host.stop() == 0, host.output
        assert "Traceback" not in server.output + host.output
    finally:
        server.kill()
        if host is not None:
            host.stop(signal.SIGKILL)


@pytest.mark.prove
def test_a_mistake_of_the_operators(checkpoints: tuple[Path, Path], secret: Path) -> None:
    """A sentence, no traceback; all of them are in `tests/server/load/test_other_hosts.py`, and how
    the command tells what the engine says in `test_server_life.py`, at each push."""
    secret.chmod(0o644)
    server = serve(checkpoints[0], secret, "127.0.0.2:7000")
    with pytest.raises(RuntimeError, match="can be read by others: chmod 600") as error:
        server.start()
    assert "Traceback" not in str(error.value)


@pytest.fixture
def cable() -> Iterator[tuple[str, str, str]]:
    """A network namespace, the end here of the cable to it, and this end's address."""
    name, here, there = "thirdeye-far", "thirdeye-a", "thirdeye-b"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces want root and iproute2")

    def ip(line: str) -> None:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True)

    try:
        ip(f"netns add {name}")
        ip(f"link add {here} type veth peer name {there} netns {name}")
        ip(f"addr add 198.18.7.1/30 dev {here}")  # a range that is for tests
        ip(f"link set {here} up")
        ip(f"-n {name} addr add 198.18.7.2/30 dev {there}")
        ip(f"-n {name} link set {there} up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr}")
    yield name, here, "198.18.7.1"
    ip(f"netns del {name}")


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_cable_is_cut(
    checkpoints: tuple[Path, Path], secret: Path, cable: tuple[str, str, str]
) -> None:
    """Between two network namespaces: the same answer; then no message and no end of a stream
    comes through, which both sides take for the other's death within half a minute. Once the cable
    is back, so are they."""
    namespace, interface, own = cable
    assert interface_of(own) == interface
    address = f"{own}:{free_port(own)}"
    server = serve(checkpoints[0], secret, address)
    within = ("ip", "netns", "exec", namespace)
    args = [str(checkpoints[1]), "--join", address, "--secret-file", str(secret)]
    host = OtherHost(*args, within=within)
    try:
        server.start()
        answer = complete(server.url).json()["choices"][0]["text"]
        (rank,) = host.ranks()
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        seconds_until(lambda: "Rank 1 has been silent for 20 seconds" in server.output)
        seconds_until(lambda: not is_running(rank))
        subprocess.run(["ip", "link", "set", interface, "up"], check=True)
        seconds_until(lambda: "the engine is back" in server.output)
        assert complete(server.url).json()["choices"][0]["text"] == answer
        assert server.stop() == 0, server.output
        assert host.stop() == 0, host.output
    finally:
        server.kill()
        host.stop(signal.SIGKILL)
