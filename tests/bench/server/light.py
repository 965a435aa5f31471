"""The client of the benchmarks: what it takes per token is a fraction of what a server takes.

Client and server share the machine's cores, so what the client burns is missing from what is
measured, for every server alike; httpx burns some 140 us per event. This one reads the socket as
the load tester does (`clients/loadtest/driver/wire.py`), stamps the first piece that has a choice
in it, and keeps the bytes: nothing is parsed before the answer is over, and then its usage alone.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from thirdeye.clients.loadtest.driver.wire import Wire
from thirdeye.clients.loadtest.run import event_loop
from thirdeye.clients.target import Target

Result = TypeVar("Result")

FIRST_CHOICE = re.compile(rb'"choices":\s*\[\s*\{')
USAGE = re.compile(rb'"usage":\s*\{')


class Answer:
    """A `wire.Sink` for one answer, streamed or not. Times are of `time.perf_counter`."""

    def __init__(self) -> None:
        self.sent_at = 0.0
        self.first_at: float | None = None  # of the first choice
        self.ended_at = 0.0
        self._status = 0
        self._pieces: list[bytes] = []

    @property
    def seconds_to_first(self) -> float:
        assert self.first_at is not None, "`ask` has seen to it"
        return self.first_at - self.sent_at

    def sent(self, now: float) -> None:
        self.sent_at = now

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status = status

    def body(self, data: bytes, now: float) -> None:
        self._pieces.append(data)
        self.ended_at = now
        if self.first_at is None and FIRST_CHOICE.search(data):
            self.first_at = now

    def whole(self) -> bytes:
        """The body. Raises RuntimeError with it if the server did not answer 200."""
        body = b"".join(self._pieces)
        if self._status != 200:
            raise RuntimeError(f"HTTP {self._status}: {body[:500].decode(errors='replace')}")
        return body

    def usage(self) -> Mapping[str, int]:
        """The last usage that the server tells. RuntimeError if there is none."""
        told = [line for line in self.whole().splitlines() if USAGE.search(line)]
        if not told:
            raise RuntimeError("the server tells no usage")
        usage: Mapping[str, int] = msgspec.json.decode(told[-1].removeprefix(b"data: "))["usage"]
        return usage


async def ask(wire: Wire, body: Mapping[str, Any]) -> Answer:
    """One completion. `WireError` if the connection fails, RuntimeError if the answer is none."""
    answer = Answer()
    await wire.post("completions", msgspec.json.encode(dict(body)), answer)
    if body.get("stream") and b"data: [DONE]" not in answer.whole()[-200:]:
        raise RuntimeError("the stream broke off")
    if answer.first_at is None:
        raise RuntimeError(f"no choice in {answer.whole()[:500]!r}")
    return answer


def with_wire(url: str, work: Callable[[Wire], Awaitable[Result]]) -> Result:
    """Runs `work` on a loop of its own, over connections to one server that are closed after it."""

    async def run() -> Result:
        wire = Wire(Target.find(url), time.perf_counter)
        try:
            return await work(wire)
        finally:
            await wire.close()

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(run())
