"""A hundred thousand requests of all kinds, one in five left in the middle: nothing grows.

python -m tests.trust.live.test_soak 20000      as many as there is time for
python -m tests.trust.live.test_soak 3600s      for an hour, on the default model

The second says on stderr what it has read after each wave, so that much is known of one that is
ended from outside. Its small KV cache is full after some hundred requests, and then stays so.
"""

import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.life.test_leavers import is_at_rest
from tests.e2e.live import LiveServer
from tests.e2e.procfs import (
    HANGS,
    children,
    num_connections,
    num_descriptors,
    num_threads,
    resident_bytes,
    runs_module,
    seconds_until,
)
from tests.tiny import tiny_llama
from tests.trust.live.raw_client import ask, request_bytes

CALLERS = 12
TRIALS = "thirdeye.server.text.constraints.trials.trial_main"
PATIENCE = 3 * HANGS  # of a caller: the server's own limit of a request is 600 s
WARM_UP = 10_000  # until all that has a bound is full: the KV cache, tapes, blocks' records
READINGS = 10
WAVE = 50  # requests between two readings on the default model
MB_FOR_TEN_THOUSAND = 1.0
TEXTS = ["Greasy fried noodles", "The quick brown fox", "def add(left, right):", "x"]


def bodies(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    """A route and a request of it: streamed or whole, chosen in many ways, some of them wrong."""
    text = f"{chance.choice(TEXTS)} {chance.randrange(1000)}"
    more: dict[str, Any] = {
        "max_tokens": chance.choice([1, 4, 12, 30]),
        "stream": chance.random() < 0.5,
        "temperature": chance.choice([0, 1]),
        "n": chance.choice([1, 1, 1, 3]),
    }
    if chance.random() < 0.1:
        more["structured_outputs"] = {"regex": f"[a-z]{{1,{chance.randrange(1, 9)}}}"}
    if chance.random() < 0.1:
        more["logprobs"] = True
    chat = {"model": name, "messages": [{"role": "user", "content": text}]}
    few = {"model": name, "max_tokens": 8}
    return chance.choice(
        [
            ("/v1/chat/completions", chat | more),
            ("/v1/completions", {"model": name, "prompt": text} | more | {"logprobs": None}),
            ("/v1/responses", {"model": name, "input": text, "max_output_tokens": 16}),
            ("/v1/messages", chat | few),
            ("/api/generate", {"model": name, "prompt": text, "options": {"num_predict": 8}}),
            ("/tokenize", {"model": name, "prompt": text}),
            ("/v1/embeddings", {"model": name, "input": text}),
            ("/v1/chat/completions", chat | {"temperature": "hot"}),
        ]
    )


async def one(port: int, chance: random.Random, name: str) -> None:
    path, body = bodies(chance, name)
    if chance.random() < 0.8:
        answer = await ask(port, body, path, patience=PATIENCE)
        assert answer.status in (200, 400, 429), (path, body, answer.text)
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = request_bytes(body, path)
    writer.write(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
    if chance.random() < 0.5:
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(500), chance.random() * 0.05)
    if chance.random() < 0.5:
        writer.transport.abort()
    writer.close()


class Soaked:
    """A server under callers, looked at whenever it is at rest."""

    def __init__(self, args: list[str], name: str) -> None:
        self._server = LiveServer([*args, "--log-level", "error"]).start()
        self._pids = (self._server.process.pid, *self._server.engines())
        self._chance, self._name = random.Random(1), name

    def wave(self, size: int) -> None:
        """So many requests."""
        asyncio.run(self._wave(size))

    async def _wave(self, size: int) -> None:
        left = iter(range(size))

        async def caller() -> None:
            for _ in left:
                await one(self._server.port, self._chance, self._name)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    def rest(self) -> tuple[list[int], list[int], list[int]]:
        """Bytes, descriptors and threads of server and engine, once nothing is left to do."""
        seconds_until(lambda: is_at_rest(self._server))
        seconds_until(lambda: num_connections(self._server.port) == 0)
        looks = (resident_bytes, own_descriptors, num_threads)
        return tuple([look(pid) for pid in self._pids] for look in looks)  # type: ignore[return-value]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        status = self._server.stop()
        if kind is not None:
            return
        assert status == 0, self._server.output
        assert "Traceback" not in self._server.output, self._server.output
        assert "bug in" not in self._server.output, self._server.output


def soak(path: Path, count: int) -> dict[str, float]:
    """`count` requests on a tiny model."""
    tiny_llama(path)
    args = ["--served-model-name", "tiny", "--kv-memory", "0.01", "--max-num-seqs", "8"]
    with Soaked([str(path), *args], "tiny") as soaked:
        soaked.wave(WARM_UP)
        looks = [soaked.rest()]
        for _ in range(READINGS):
            soaked.wave(count // READINGS)
            looks.append(soaked.rest())
    return figures_of(looks, count)


def soak_for(seconds: float) -> dict[str, float]:
    """On the default model; the first half is warming up."""
    with Soaked(["--kv-memory", "0.1"], "smollm2") as soaked:
        begin, count, looks = time.monotonic(), 0, [soaked.rest()]
        while time.monotonic() - begin < seconds:
            soaked.wave(WAVE)
            count += WAVE
            looks.append(soaked.rest())
            print(
                f"{time.monotonic() - begin:.0f} s, {count} requests: {looks[-1]}", file=sys.stderr
            )
    return figures_of(looks[len(looks) // 2 :], count // 2)


def figures_of(looks: list[tuple[list[int], list[int], list[int]]], count: int) -> dict[str, float]:
    """Of readings over `count` requests."""
    before, after = looks[0], looks[-1]
    assert all(b <= a for a, b in zip(before[1], after[1], strict=True)), (before[1], after[1])
    return {
        "requests": count,
        "server_mb_for_10000": slope([look[0][0] for look in looks], count),
        "engine_mb_for_10000": slope([look[0][1] for look in looks], count),
        "descriptors_left": sum(after[1]) - sum(before[1]),
        "threads_more": sum(after[2]) - sum(before[2]),
    }


def own_descriptors(pid: int) -> int:
    """Less those for processes that try grammars, of which there may be more by now: one for their
    source, and one for each of its own."""
    sources = [child for child in children(pid) if runs_module(child, TRIALS)]
    return num_descriptors(pid) - len(sources) - sum(len(children(source)) for source in sources)


def slope(sizes: list[int], count: int) -> float:
    """Of the second half of the readings: what is touched once has been touched by then."""
    late = [size / 1e6 for size in sizes[len(sizes) // 2 :]]
    at = [i * count / (len(sizes) - 1) / 10_000 for i in range(len(late))]
    return round(statistics.linear_regression(at, late).slope, 2)


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_hundred_thousand(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    figures = soak(tmp_path, 100_000)
    for name, value in figures.items():
        record_property(name, value)
    grown = max(figures["server_mb_for_10000"], figures["engine_mb_for_10000"])
    assert grown < MB_FOR_TEN_THOUSAND, figures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asked = sys.argv[1]
        is_time = asked.endswith("s")
        found = soak_for(float(asked[:-1])) if is_time else soak(Path(folder), int(asked))
        print(json.dumps(found))
