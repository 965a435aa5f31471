"""Ten times what a server can serve, and what it did meanwhile: the figures of one flood.

Generator and refusals share the server's cores, so what they take nobody can serve. How much that
is says a control: the same server, loaded to its capacity without a refusal, while the same
generator sends as many requests as were refused to a listener that does nothing but refuse. What is
served then is what two cores leave; the flood is held against it.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.e2e.live import ROOT, LiveServer
from tests.e2e.procfs import cpu_seconds
from tests.trust.live.raw_client import Answer, ask, quantile

LOAD = 10  # times the capacity
RISE = 1 / 3  # of a load's time: the rest is what is counted of it
BODY: dict[str, Any] = {
    "model": "m", "prompt": "Greasy fried noodles", "max_tokens": 60, "ignore_eos": True,
    "stream": True,
}  # fmt: skip


@dataclass(frozen=True)
class Load:
    """What a generator in a process of its own sent and took."""

    sent: list[dict[str, Any]]
    seconds: float  # that it sent
    generator_cpu_seconds: float
    late_p99: float

    @property
    def served(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["is_done"]]

    @property
    def refused(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["status"] == 429]

    @property
    def rate(self) -> float:
        """Answers a second, once it has risen and while it is sent; of an answer that is partly
        in that time, its part."""
        begin = RISE * self.seconds
        parts = (_share(one, begin, self.seconds) for one in self.served)
        return sum(parts) / (self.seconds - begin)


def _share(one: dict[str, Any], begin: float, end: float) -> float:
    """Of an answer's tokens, which come evenly from its first to its last."""
    first, last = one["due"] + one["first_token"], one["due"] + one["seconds"]
    return max(min(last, end) - max(first, begin), 0.0) / (last - first)


def begin(
    port: int, seconds: float, *how: str, body: dict[str, Any] = BODY
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.trust.live.load_generator", str(port), *how]
    command += ["--seconds", str(seconds), "--body", json.dumps(body)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def generate(port: int, seconds: float, *how: str, body: dict[str, Any] = BODY) -> Load:
    with begin(port, seconds, *how, body=body) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    *sent, about = map(json.loads, output.splitlines())
    return Load(sent, seconds, about["cpu_seconds"], about["late_p99"])


def rate_beside_refusals(port: int, seconds: float, callers: int, refusals: float) -> float:
    """Answers a second at capacity, while so many connections a second are refused elsewhere."""
    command = [sys.executable, "-m", "tests.trust.live.null_listener"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stdout is not None
            there = int(listener.stdout.readline())
            with begin(there, seconds, "--rate", str(refusals)) as flooding:
                full = generate(port, seconds, "--callers", str(callers))
                flooding.communicate()
        finally:
            listener.kill()
    assert flooding.returncode == 0
    return full.rate


@dataclass(frozen=True)
class Flood:
    """On a server of `args`, which serves `callers` at once without a refusal."""

    args: list[str]
    callers: int
    saturation_seconds: float
    flood_seconds: float

    def run(self) -> dict[str, float]:
        """Loads it to its capacity, floods it, asks again two seconds after the last answer."""
        server = LiveServer([*self.args, "--served-model-name", "m", "--log-level", "warning"])
        cpu = partial(cpu_seconds, server.start().process.pid)
        callers = ("--callers", str(self.callers))
        try:
            generate(server.port, self.saturation_seconds / 3, *callers)
            idle = cpu()
            full = generate(server.port, self.saturation_seconds, *callers)
            cost_of_one, before = (cpu() - idle) / len(full.served), cpu()
            rate = ("--rate", str(LOAD * full.rate))
            flood = generate(server.port, self.flood_seconds, *rate)
            taken = cpu() - before
            after = asyncio.run(calm(server.port))
            refusals = len(flood.refused) / self.flood_seconds
            left = rate_beside_refusals(
                server.port, self.saturation_seconds, self.callers, refusals
            )
        finally:
            assert server.stop() == 0, server.output
        served, refused = flood.served, flood.refused
        assert len(full.served) == len(full.sent), "refused without a flood"
        assert len(served) + len(refused) == len(flood.sent)
        assert all(answer.is_done for answer in after)
        assert all(1 <= one["retry_after"] <= 60 for one in refused)
        spared = max(taken - cost_of_one * len(served), 0.0)
        generator = flood.generator_cpu_seconds / self.flood_seconds
        return {
            "sent": len(flood.sent),
            "capacity_a_second": round(full.rate, 1),
            "goodput_of_capacity": round(flood.rate / full.rate, 3),
            "left_a_second": round(left, 1),
            "goodput_of_what_is_left": round(flood.rate / left, 3),
            "refused_p50_ms": round(1000 * quantile([one["seconds"] for one in refused], 0.5), 1),
            "refused_p99_ms": round(1000 * quantile([one["seconds"] for one in refused], 0.99), 1),
            "first_token_p99_s": round(quantile([one["first_token"] for one in served], 0.99), 2),
            "after_2_s_first_token_s": round(max(answer.first_token or 99 for answer in after), 3),
            "refusal_us_of_server": round(1e6 * spared / len(refused)),
            "generator_cpu_share": round(generator, 2),
            "generator_late_p99_ms": round(1000 * flood.late_p99),
        }


async def calm(port: int) -> list[Answer]:
    """One after the other, two seconds after the last of the flood was answered or refused."""
    await asyncio.sleep(2)
    return [await ask(port, BODY) for _ in range(5)]
