"""Sixty-four at once, 256 in all, on the default model: each gets what it would get alone."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import resident_bytes
from tests.tiny import tiny_llama
from tests.trust.live.raw_client import ask

WORDS = ["Lighthouses", "Tea", "Bridges", "The moon", "Rust", "Whales", "Chess", "Volcanoes"]


def body_of(number: int, num_tokens: int) -> dict[str, Any]:
    """One of 64 questions."""
    word, style = (
        WORDS[number % 8],
        ["short", "long", "odd", "sad", "old", "new", "dry", "wet"][number // 8 % 8],
    )
    return {
        "model": "m", "prompt": f"{word}: a {style} story.", "max_tokens": num_tokens,
        "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def text_of(data: bytes, num_tokens: int) -> str:
    """The whole text; its usage must be right."""
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: {")]
    chunks = [json.loads(line) for line in lines]
    assert chunks[-1]["usage"]["completion_tokens"] == num_tokens
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def hold(model: str, count: int, at_once: int, num_tokens: int) -> float:
    """The share by which both processes have grown, from the first to the last."""
    server = LiveServer([model, "--served-model-name", "m", "--max-num-seqs", "64"]).start()
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> str:
        async with gate:
            answer = await ask(server.port, body_of(number, num_tokens), patience=900)
        assert answer.is_done, answer.text[-500:]
        return text_of(answer.text, num_tokens)

    async def main() -> tuple[list[str], list[str], float]:
        alone = [await one(number) for number in range(min(64, count))]
        await asyncio.gather(*(one(number) for number in range(at_once)))
        pids = (server.process.pid, *server.children())
        before = sum(map(resident_bytes, pids))
        together = await asyncio.gather(*(one(number) for number in range(count)))
        return alone, together, sum(map(resident_bytes, pids)) / before - 1

    try:
        alone, together, grown = asyncio.run(main())
    finally:
        assert server.stop() == 0, server.output
    assert together == [alone[number % 64] for number in range(count)]
    return grown


def test_sixteen_at_once(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    hold(str(tmp_path), count=32, at_once=16, num_tokens=20)


@pytest.mark.prove
@pytest.mark.real
@pytest.mark.timeout(1800)
def test_sixty_four_at_once(
    default_model: Path, record_property: Callable[[str, object], None]
) -> None:
    grown = hold(str(default_model), count=256, at_once=64, num_tokens=64)
    record_property("answers_as_alone", 256)
    record_property("memory_grown_percent", round(100 * grown, 1))
    assert grown < 0.05
