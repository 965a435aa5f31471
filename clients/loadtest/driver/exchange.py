"""One request of a load test: asked, answered, and put into a Record.

How a failure is called in the results: the HTTP status ("429", "503"), "stream" for an error event
or a stream without `[DONE]`, "connection", or "timeout". A failure that a second try can mend is
retried if `max_retries` says so, by the rules of `thirdeye.clients.retry`; the latency then counts
from the first intention, as its user waited from there.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from thirdeye.clients.errors import ConnectionFailed, ThirdeyeError
from thirdeye.clients.loadtest.driver.reading import Reading
from thirdeye.clients.loadtest.driver.record import Record
from thirdeye.clients.loadtest.driver.wire import Clock, Wire, WireError
from thirdeye.clients.loadtest.workload.prompts import Message, Turn
from thirdeye.clients.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Form:
    """How a turn becomes a request: endpoint, model, and the fields that are always sent."""

    model: str
    is_chat: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return "chat/completions" if self.is_chat else "completions"

    def body(self, history: Sequence[Message], turn: Turn) -> bytes:
        fields: dict[str, Any] = {"model": self.model}
        if self.is_chat:
            fields["messages"] = [*history, {"role": "user", "content": turn.text}]
        else:
            fields["prompt"] = "\n".join([*(m["content"] for m in history), turn.text])
        fields |= {"max_tokens": turn.max_tokens, **self.params, "stream": True}
        return msgspec.json.encode(fields | {"stream_options": {"include_usage": True}})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record, and the text for the next turn of the conversation."""

    record: Record
    text: str


class Exchange:
    """Sends turns to one server. `timeout` is in seconds, for all tries of a request together."""

    def __init__(
        self, wire: Wire, form: Form, clock: Clock, timeout: float = 600.0, max_retries: int = 0
    ) -> None:
        self._wire = wire
        self._form = form
        self._clock = clock
        self._timeout = timeout
        self._retry = RetryPolicy(max_retries)

    async def ask(
        self, history: Sequence[Message], turn: Turn, intended_at: float, turn_number: int = 0
    ) -> Outcome:
        """Never raises for what the server does: a failure is a Record with an `error`."""
        body = self._form.body(history, turn)
        ready_at = self._clock()
        readings: list[Reading] = []  # one for each try
        try:
            async with asyncio.timeout(self._timeout):
                await self._try(body, readings)
        except TimeoutError:
            readings[-1].failure = "timeout"
        first, last, now = readings[0], readings[-1], self._clock()
        record = Record(
            intended_at=intended_at,
            ready_at=ready_at,
            sent_at=now if first.sent_at is None else first.sent_at,
            ended_at=now if last.ended_at is None else last.ended_at,
            text_times=last.text_times,
            num_events=last.num_events,
            prompt_tokens=last.usage.prompt_tokens if last.usage else None,
            output_tokens=last.usage.completion_tokens if last.usage else None,
            cached_tokens=last.cached_tokens,
            error=last.failure,
            retries=len(readings) - 1,
            turn=turn_number,
        )
        return Outcome(record, "".join(last.texts))

    async def _try(self, body: bytes, readings: list[Reading]) -> None:
        """Tries until there is an answer, or a failure that is not to be tried again."""
        for attempt in count():
            reading = Reading()
            readings.append(reading)
            error: ThirdeyeError | None
            try:
                await self._wire.post(self._form.path, body, reading)
                error = reading.finish()
            except WireError as cause:
                is_final = bool(reading.num_events or reading.failure)
                reading.failure = reading.failure or ("stream" if is_final else "connection")
                error = None if is_final else ConnectionFailed(str(cause))
            wait = self._retry.wait(error, attempt, random.random()) if error else None
            if wait is None:
                return
            await asyncio.sleep(wait)
