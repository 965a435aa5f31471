"""Replicas that are killed under their streams: each stream goes on at the other one, and nobody
who reads it could tell.

All streams of a round break at once, at whatever token each has come to. The oracle is the same
request to a replica that lives. `pytest -m prove` breaks 200.
"""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.clients.resume.read_stream import ReadStream, read
from tests.e2e.live import LiveServer
from tests.e2e.procfs import is_running
from tests.tiny import tiny_llama
from thirdeye.clients import Client

NUM_TOKENS = 1500  # more than come before the kill, on whatever machine


class Pair:
    """Two replicas of one tiny model; one that was killed is replaced."""

    def __init__(self, path: Path) -> None:
        tiny_llama(path, context=4096)
        options = ["--served-model-name", "tiny", "--max-num-seqs", "64", "--quantize", "none"]
        self._args = [str(path), *options, "--threads", "1"]
        self.servers = [self._start(), self._start()]

    def _start(self) -> LiveServer:
        return LiveServer(self._args).start()

    def kill_first(self) -> None:
        self.servers[0].kill()

    def replace_dead(self) -> None:
        if self.servers[0].process.poll() is not None:
            self.servers = [self.servers[1], self._start()]

    def close(self) -> None:
        for server in self.servers:
            server.kill()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("tiny"))
    yield pair
    pair.close()


def asked(chance: random.Random) -> dict[str, Any]:
    """A request of any kind that can go on elsewhere."""
    params: dict[str, Any] = {"temperature": 0} if chance.random() < 0.3 else {"temperature": 0.9}
    params["seed"] = chance.getrandbits(62)
    params["max_tokens"] = NUM_TOKENS
    params["ignore_eos"] = True
    more: list[dict[str, Any]] = [
        {},
        {"frequency_penalty": 0.6, "presence_penalty": 0.3},
        {"repetition_penalty": 1.2, "top_p": 0.9},
        {"logprobs": True, "top_logprobs": 2, "max_tokens": 600},
        {"stop": ["qzj"], "top_k": 40},
        {"min_tokens": 1000, "ignore_eos": False},
    ]
    return params | chance.choice(more)


def ask(client: Client, params: dict[str, Any], begun: threading.Semaphore | None) -> ReadStream:
    stream = client.stream_chat(
        "Greasy fried noodles", resume=begun is not None, return_token_ids=True, **params
    )
    if begun is not None:
        stream = Watched(stream, begun, random.Random(params["seed"]).randrange(1, 60))  # type: ignore[assignment]  # all that `read` needs
    return read(stream)


class Watched:
    """A stream that tells when so many of its chunks have come."""

    def __init__(self, stream: Any, begun: threading.Semaphore, num_chunks: int) -> None:
        self._stream, self._begun, self._left = stream, begun, num_chunks

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._stream:
            yield chunk
            self._left -= 1
            if not self._left:
                self._begun.release()

    def answer(self) -> Any:
        return self._stream.answer()


def break_streams(pair: Pair, num_streams: int, seed: int) -> int:
    """How many streams were equal to what they would have been; the first replica is dead."""
    pair.replace_dead()
    chance = random.Random(seed)
    requests = [asked(chance) for _ in range(num_streams)]
    begun = threading.Semaphore(0)
    urls = [server.url for server in pair.servers]
    with Client(urls, model="tiny") as client, ThreadPoolExecutor(num_streams) as pool:
        streams = [pool.submit(ask, client, params, begun) for params in requests]
        for _ in range(num_streams):
            assert begun.acquire(timeout=120)
        pair.kill_first()
        assert not any(stream.done() for stream in streams), "one was over before the kill"
        found = [stream.result(300) for stream in streams]
    with Client(urls[1], model="tiny") as client, ThreadPoolExecutor(num_streams) as pool:
        wholes = [pool.submit(ask, client, params, None) for params in requests]
        expected = [whole.result(300) for whole in wholes]
    for one, other in zip(found, expected, strict=True):
        assert one == other
    return len(found)


def test_streams_of_a_killed_replica_go_on_without_a_seam(pair: Pair) -> None:
    """kill -9 of a server that computes leaves no engine of its behind, either."""
    (engine,) = pair.servers[0].engines()
    assert break_streams(pair, 4, seed=1) == 4
    assert not is_running(engine)


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_two_hundred_of_two_hundred(pair: Pair) -> None:
    num_equal = 0
    for round_ in range(5):
        num_equal += break_streams(pair, 40, seed=100 + round_)
    assert num_equal == 200
