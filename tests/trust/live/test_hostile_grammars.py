"""Hostile grammars without a pause, beside one healthy stream: its worst pause, and what is kept.

A control of the same length comes right before, with the stream alone, so that a busy machine
counts in both.
"""

import asyncio
import itertools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import resident_bytes
from tests.tiny import tiny_llama
from tests.trust.live.raw_client import ask, quantile, request_bytes

CONTEXT = 1 << 15
STREAM = {
    "model": "tiny", "prompt": "On and on", "max_tokens": CONTEXT - 100, "ignore_eos": True,
    "stream": True,
}  # fmt: skip


def named_by_each_other(num_rules: int, n: int) -> str:
    rules = [
        f"r{i}: " + " | ".join(f"r{j}" for j in range(num_rules) if j != i) + f' | "{n % 10}"'
        for i in range(num_rules)
    ]
    return "\n".join([f'start: r0 "{n}"?', *rules])


def named_by_all(num_rules: int, n: int) -> str:
    rules = [f'r{i}: r0 "a" | "{n}"' for i in range(1, num_rules)]
    return "\n".join(
        ["start: r0", "r0: " + " | ".join(f"r{i}" for i in range(1, num_rules)), *rules]
    )


HOSTILE: tuple[Callable[[int], dict[str, Any]], ...] = (  # each is another one each time
    lambda n: {"regex": f"a{{4{n:05d}0}}"},
    lambda n: {"regex": f"((a{{1,1{n % 90 + 10}}}){{1,100}}){{1,30}}b"},
    lambda n: {"regex": rf"(\p{{L}}{{1,{n % 400 + 100}}}x){{1,8}}"},
    lambda n: {"regex": f"(.*a{n}){{40}}"},
    lambda n: {"regex": "(a|aa)+" + "b" * (n % 4000)},
    lambda n: {"choice": [f"{n} option {i}" for i in range(3000)]},
    lambda n: {"json": {"type": "array", "minItems": 10**6 + n}},
    lambda n: {"json": {"type": "string", "minLength": 10**6 + n}},
    lambda n: {"json": {"enum": [f"{n} {i}" for i in range(4000)]}},
    lambda n: {
        "json": {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": -n - i}]} for i in range(24)]}
    },
    lambda n: {"grammar": f"start: A\nA: /.*a.{{{n % 20 + 10}}}/ & /.*b.{{30}}/ & /.*c.{{30}}/"},
    lambda n: {"grammar": f'start: s\ns: s s | "a" | "" | "{n}"'},
    lambda n: {"grammar": f"start: s\ns: s s | s s s | /[a-z {n}]/"},
    lambda n: {"grammar": named_by_each_other(44, n)},
    lambda n: {"grammar": named_by_all(200, n)},
    lambda n: {"grammar": 'start: /[0-9]{3}/ "!" r0\n' + named_by_all(150, n).split("\n", 1)[1]},
    lambda n: {"grammar": named_by_each_other(100, n)},
)


async def worst_pause(port: int, seconds: float, beside: Callable[[], Any]) -> tuple[float, float]:
    """The 99.9th percentile and the longest of a stream's pauses, in ms, while `beside` runs."""
    arrivals: list[float] = []

    async def stream() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request_bytes(STREAM))
                while await reader.read(1 << 16):
                    arrivals.append(asyncio.get_running_loop().time())
            finally:
                writer.close()

    listening = asyncio.create_task(stream())
    await asyncio.sleep(1)
    begun = len(arrivals)
    others = [asyncio.create_task(beside()) for _ in range(2)]
    await asyncio.sleep(seconds)
    pauses = [1000 * (b - a) for a, b in pairwise(arrivals[begun:])]
    for task in (listening, *others):
        task.cancel()
    await asyncio.gather(listening, *others, return_exceptions=True)
    return quantile(pauses, 0.999), max(pauses)


def measure(path: Any, seconds: float) -> dict[str, float]:
    tiny_llama(path, context=CONTEXT)
    server = LiveServer(
        [str(path), "--served-model-name", "tiny", "--speculation", "off", "--log-level", "error"]
    ).start()
    numbers = itertools.count()
    statuses: dict[int, int] = {}

    async def idle() -> None:
        await asyncio.sleep(seconds + 1)

    async def hostile() -> None:
        while True:
            number = next(numbers)
            form = HOSTILE[number % len(HOSTILE)](number)
            body = {"model": "tiny", "prompt": "x", "max_tokens": 40, "structured_outputs": form}
            answer = await ask(server.port, body)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    async def main() -> dict[str, float]:
        await worst_pause(server.port, 1, hostile)
        pids = (server.process.pid, *server.engines())
        alone = await worst_pause(server.port, seconds, idle)
        before, began = sum(map(resident_bytes, pids)), next(numbers)
        beside = await worst_pause(server.port, seconds, hostile)
        return {
            "grammars": next(numbers) - began - 1,
            "alone_p999_ms": round(alone[0], 1),
            "alone_worst_ms": round(alone[1], 1),
            "beside_p999_ms": round(beside[0], 1),
            "beside_worst_ms": round(beside[1], 1),
            "grown_mb": round((sum(map(resident_bytes, pids)) - before) / 1e6, 1),
        }

    try:
        figures = asyncio.run(main())
    finally:
        assert server.stop() == 0, server.output
    assert statuses.keys() <= {200, 400}, statuses
    return figures


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_stream_beside_hostile_grammars(
    tmp_path: Any, record_property: Callable[[str, object], None]
) -> None:
    figures = measure(tmp_path, 30)
    for name, value in figures.items():
        record_property(name, value)
    assert figures["grown_mb"] < 100, figures
    assert figures["beside_worst_ms"] <= figures["alone_worst_ms"] + 20, figures
