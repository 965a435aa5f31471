"""Ten times what can be served: who is let in is answered in time, the rest hear at once."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama
from tests.trust.live.raw_client import Answer, ask, quantile

PLACES, QUEUE_SECONDS = 4, 4.0
SATURATION_SECONDS, FLOOD_SECONDS, LOAD = 10.0, 30.0, 10
BODY = {
    "model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 60, "ignore_eos": True,
    "stream": True,
}  # fmt: skip


async def saturate(port: int, seconds: float) -> tuple[float, float]:
    """Requests a second with all places taken and one more waiting for each, and the median time
    to the first token of all."""
    end, answers = time.monotonic() + seconds, list[Answer]()

    async def caller() -> None:
        while time.monotonic() < end:
            answers.append(await ask(port, BODY))

    began = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(2 * PLACES)))
    served = [answer for answer in answers if answer.is_done]
    return len(served) / (time.monotonic() - began), quantile(
        [a.first_token or 0 for a in served], 0.5
    )


async def flood(port: int, rate: float, seconds: float) -> list[Answer]:
    """An open loop: the next one comes whether the last was answered or not."""
    began, tasks = time.monotonic(), list["asyncio.Task[Answer]"]()
    while (spent := time.monotonic() - began) < seconds:
        for _ in range(int(spent * rate) - len(tasks)):
            tasks.append(asyncio.create_task(ask(port, BODY)))
        await asyncio.sleep(0.01)
    return await asyncio.gather(*tasks)


async def calm(port: int) -> list[Answer]:
    """One after the other, two seconds after the last of the flood was answered or refused."""
    await asyncio.sleep(2)
    return [await ask(port, BODY) for _ in range(5)]


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_a_flood(tmp_path: Any, record_property: Callable[[str, object], None]) -> None:
    tiny_llama(tmp_path, context=1024)
    server = LiveServer(
        [str(tmp_path), "--served-model-name", "tiny", "--max-num-seqs", str(PLACES),
         "--max-queue-time", str(QUEUE_SECONDS), "--log-level", "warning"]
    ).start()  # fmt: skip

    async def main() -> tuple[float, list[Answer], list[Answer]]:
        await saturate(server.port, 3)
        capacity, _ = await saturate(server.port, SATURATION_SECONDS)
        answers = await flood(server.port, LOAD * capacity, FLOOD_SECONDS)
        return capacity, answers, await calm(server.port)

    try:
        capacity, answers, after = asyncio.run(main())
    finally:
        assert server.stop() == 0, server.output
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(served) + len(refused) == len(answers)
    assert all(answer.is_done for answer in served)
    waits = [answer.first_token or 0.0 for answer in served]
    first_to_last = FLOOD_SECONDS + max(answer.seconds for answer in served[-PLACES:])
    figures = {
        "sent": len(answers),
        "capacity_a_second": round(capacity, 1),
        "goodput_of_capacity": round(len(served) / first_to_last / capacity, 3),
        "refused_p99_ms": round(1000 * quantile([a.seconds for a in refused], 0.99)),
        "first_token_p99_s": round(quantile(waits, 0.99), 2),
        "retry_after_s": f"{min(a.retry_after for a in refused)} to "
        f"{max(a.retry_after for a in refused)}",
        "after_2_s_first_token_s": round(max(answer.first_token or 99 for answer in after), 3),
    }
    for name, value in figures.items():
        record_property(name, value)
    assert all(1 <= answer.retry_after <= 60 for answer in refused)
    assert figures["first_token_p99_s"] <= QUEUE_SECONDS + 0.5, figures
    assert all(answer.is_done for answer in after), figures
    assert figures["goodput_of_capacity"] >= 0.95, figures
    assert figures["refused_p99_ms"] <= 50, figures
