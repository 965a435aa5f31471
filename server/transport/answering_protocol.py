"""What becomes of a request whose head is there: it is refused at once, or the application is
called, with a short way to the socket.

Where the application says no by a head alone (`RefuseEarly`), the body is read and dropped, and
the answer goes out in one piece: no task is started. A server that is asked ten times more than it
can serve spends its time on this. What uvicorn keeps for a request, its cycle, is there as for
every other: pipelines, timers and connections that are kept see no difference.

Whoever comes with a head that was refused before hears it again without a parser, too
(`known_heads`): that is a tenth of the code. And who was refused a moment ago is not read at once,
but together with others (`held_back`).

A connection that has ended refers to nothing that refers to it: else the garbage collector would
have to find each, and all streams wait while it looks.
"""

import logging
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from thirdeye.server.asgi_extension import DIRECT_WRITE, REFUSE_EARLY, EarlyAnswer, RefuseEarly
from thirdeye.server.transport.direct_write import CycleWriter
from thirdeye.server.transport.flood import flood_of
from thirdeye.server.transport.known_heads import head_of, may_be_noted

_ONE_MORE_LOOK = 0.001  # seconds: the loop asks the system what came, before its next timers


class AnsweringProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refuse_early: RefuseEarly | None = getattr(self.config.app, REFUSE_EARLY, None)
        self._answered: RequestResponseCycle | None = None  # `cycle` is the last that was read
        self._refusal: EarlyAnswer | None = None  # of `_answered`, while its body is read
        self._num_dropped = 0  # bytes of that body
        self._flood = flood_of(self.server_state)
        self._unparsed = b""  # what is being parsed, if it came between two messages
        self._refused_at = 0.0  # seconds of the loop's clock, of the last without a parser

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells the last of a pipeline, which waits
            self._answered.disconnected = not self._answered.response_complete
            self._answered.message_event.set()
            _withdraw_writer(self._answered)
        if self._refusal is not None:
            self._refusal.end(0)
            self._refusal = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._unparsed = b""

    # Refused again

    def refuse_again(self, data: bytes) -> bool:
        """Between two messages: whether this is a third, which has been refused herewith."""
        heads, self._unparsed = self._flood.heads, data
        if not heads or self.flow.write_paused or (head := head_of(data)) is None:
            return False
        known = heads.get(head)
        answer = None if known is None else known.repeat()
        if known is None or answer is None:
            return False
        self._unparsed = b""  # a body of many bytes is not kept while the connection waits
        close = b"" if known.keep_alive else b"connection: close\r\n"
        status, default = (
            STATUS_LINE[known.repeat.status],
            self._flood.default_lines(self.server_state.default_headers),
        )
        self.transport.write(b"".join((status, default, close, answer)))
        self.server_state.total_requests += 1
        if not known.keep_alive:
            self.transport.close()
            return True
        self._refused_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_more(self.timeout_keep_alive)
        self._flood.held.hold(self.transport)
        return True

    def _wait_for_more(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """What came while the loop was busy is read before the connection is closed: a request must
        not be lost to that moment."""
        if not self._has_more_time():
            self.timeout_keep_alive_task = self.loop.call_later(_ONE_MORE_LOOK, self._look_again)

    def _look_again(self) -> None:
        if not self._has_more_time():
            self._end_waiting()

    def _has_more_time(self) -> bool:
        """Whether it was refused again meanwhile: the timer is not renewed each time."""
        left = self._refused_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._wait_for_more(left)
        return left > 0

    def _end_waiting(self) -> None:
        super().timeout_keep_alive_handler()

    def _note_refused(self, cycle: RequestResponseCycle, refusal: EarlyAnswer) -> None:
        if refusal.repeat is None or not may_be_noted(self._unparsed):
            return
        if (head := head_of(self._unparsed)) is not None:
            self._flood.heads.note(head, refusal.repeat, cycle.keep_alive)

    def on_response_complete(self) -> None:
        assert self._answered is not None
        _withdraw_writer(self._answered)
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        self._refusal, self._num_dropped = self._refusal_of(cycle), 0
        if self._refusal is None:
            writer = CycleWriter(cycle, self.transport, self.flow, self.loop)
            extensions: dict[str, Any] = {DIRECT_WRITE: writer}
            cycle.scope["extensions"] = extensions  # its task has not run yet
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self.flow.resume_reading()
        else:  # it waited in a pipeline until all of it was there
            self._tell_refused()

    def _refusal_of(self, cycle: RequestResponseCycle) -> EarlyAnswer | None:
        if self._refuse_early is None or cycle.waiting_for_100_continue or self.flow.write_paused:
            return None
        try:
            return self._refuse_early(cast(dict[str, Any], cycle.scope))
        except Exception:  # the long way meets the same bug, and says so to its client
            logging.getLogger("thirdeye.api").exception("bug in an early refusal")
            return None

    def on_body(self, body: bytes) -> None:
        if not self._is_refused():
            super().on_body(body)
            return
        assert self._refuse_early is not None
        self._num_dropped += len(body)
        if self._num_dropped > self._refuse_early.max_body_bytes:  # than any body may have
            self._tell_refused()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._is_refused():
            self._tell_refused()

    def _is_refused(self) -> bool:
        """Whether that is the end of the message that is being read."""
        return self._refusal is not None and self._answered is self.cycle

    def _tell_refused(self) -> None:
        cycle, refusal = self._answered, self._refusal
        assert cycle is not None
        assert refusal is not None
        self._refusal = None
        pieces = [STATUS_LINE[refusal.status]]
        for name, value in (*cycle.default_headers, *refusal.headers):
            pieces += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            pieces.append(b"connection: close\r\n")
        self.transport.write(b"".join((*pieces, b"\r\n", refusal.body)))
        cycle.response_started = cycle.response_complete = True
        refusal.end(refusal.status)
        if not cycle.keep_alive:
            self.transport.close()
        elif refusal.repeat is not None:
            self._flood.held.hold(self.transport)
        cycle.on_response = _nothing  # it refers to us, and we to the cycle
        self._note_refused(cycle, refusal)
        self.on_response_complete()


def _nothing() -> None:
    """In the place of what is done already."""


def _withdraw_writer(cycle: RequestResponseCycle) -> None:
    """The writer refers to its cycle, and the cycle's scope to the writer."""
    cycle.scope.pop("extensions", None)
