"""Ten times what can be served: who is let in is answered in time, the rest hear at once."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.e2e.live import ROOT, LiveServer
from tests.e2e.procfs import cpu_seconds
from tests.tiny import tiny_llama
from tests.trust.live.raw_client import Answer, ask, quantile

PLACES, QUEUE_SECONDS = 4, 4.0
SATURATION_SECONDS, FLOOD_SECONDS, LOAD = 10.0, 30.0, 10
BODY = {
    "model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 60, "ignore_eos": True,
    "stream": True,
}  # fmt: skip


@dataclass(frozen=True)
class Load:
    """What a generator in a process of its own sent and took."""

    sent: list[dict[str, Any]]
    seconds: float
    generator_cpu_seconds: float
    late_p99: float

    @property
    def served(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["is_done"]]

    @property
    def refused(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["status"] == 429]


def generate(port: int, *how: str) -> Load:
    command = [sys.executable, "-m", "tests.trust.live.load_generator", str(port), *how]
    done = subprocess.run(
        [*command, "--body", json.dumps(BODY)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *sent, about = map(json.loads, done.stdout.splitlines())
    return Load(sent, about["seconds"], about["cpu_seconds"], about["late_p99"])


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

    cpu, places = partial(cpu_seconds, server.process.pid), str(2 * PLACES)
    try:
        generate(server.port, "--callers", places, "--seconds", "3")
        idle = cpu()
        full = generate(server.port, "--callers", places, "--seconds", str(SATURATION_SECONDS))
        cost_of_one, before = (cpu() - idle) / len(full.served), cpu()
        capacity = len(full.served) / full.seconds
        rate = LOAD * capacity
        flood = generate(server.port, "--rate", str(rate), "--seconds", str(FLOOD_SECONDS))
        taken = cpu() - before
        after = asyncio.run(calm(server.port))
    finally:
        assert server.stop() == 0, server.output
    served, refused = flood.served, flood.refused
    assert len(served) + len(refused) == len(flood.sent)
    figures = {
        "sent": len(flood.sent),
        "capacity_a_second": round(capacity, 1),
        "goodput_of_capacity": round(len(served) / flood.seconds / capacity, 3),
        "refused_p50_ms": round(1000 * quantile([one["seconds"] for one in refused], 0.5), 1),
        "refused_p99_ms": round(1000 * quantile([one["seconds"] for one in refused], 0.99)),
        "first_token_p99_s": round(quantile([one["first_token"] for one in served], 0.99), 2),
        "retry_after_s": f"{min(one['retry_after'] for one in refused)} to "
        f"{max(one['retry_after'] for one in refused)}",
        "after_2_s_first_token_s": round(max(answer.first_token or 99 for answer in after), 3),
        "refusal_us_of_server": round(1e6 * (taken - cost_of_one * len(served)) / len(refused)),
        "generator_cpu_share": round(flood.generator_cpu_seconds / flood.seconds, 2),
        "generator_late_p99_ms": round(1000 * flood.late_p99),
    }
    for name, value in figures.items():
        record_property(name, value)
    assert all(1 <= one["retry_after"] <= 60 for one in refused)
    assert figures["first_token_p99_s"] <= QUEUE_SECONDS + 0.5, figures
    assert all(answer.is_done for answer in after), figures
    assert figures["goodput_of_capacity"] >= 0.95, figures
    assert figures["refused_p99_ms"] <= 50, figures
