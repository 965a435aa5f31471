"""Who is late: requests that waited too long for their first step, or take too long altogether.

Both limits are the same for everybody and count from arrival, so whoever arrived first is late
first: a look at the head of each list is all that a step pays. Where no work is there is no
deadline either, so an idle engine needs no timer.
"""

from collections import OrderedDict
from collections.abc import Iterator, ValuesView

from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import ErrorCode
from thirdeye.server.engine.scheduling.sequence import Sequence


class Deadlines:
    """Limits in seconds, 0 is none. `late` names each sequence until it is forgotten."""

    def __init__(self, config: EngineConfig) -> None:
        self._queue_timeout = config.queue_timeout
        self._request_timeout = config.request_timeout
        self._unstarted: OrderedDict[str, Sequence] = OrderedDict()
        self._unfinished: OrderedDict[str, Sequence] = OrderedDict()

    def watch(self, sequence: Sequence) -> None:
        request_id = sequence.request.request_id
        self._unstarted[request_id] = self._unfinished[request_id] = sequence

    @property
    def unstarted(self) -> ValuesView[Sequence]:
        """Those that wait for their first step, in the order of arrival."""
        return self._unstarted.values()

    def start(self, sequence: Sequence) -> None:
        self._unstarted.pop(sequence.request.request_id, None)

    def forget(self, sequence: Sequence) -> None:
        self.start(sequence)
        del self._unfinished[sequence.request.request_id]

    def late(self, now: float) -> Iterator[tuple[Sequence, ErrorCode, str]]:
        """(sequence, what it missed, a sentence for its caller), longest waiting first."""
        yield from self._late(
            self._unstarted,
            self._queue_timeout,
            now,
            ErrorCode.QUEUE_TIMEOUT,
            "The request waited in the queue for longer than the limit of {:g} s; nothing was "
            "computed. Please try again later.",
        )
        yield from self._late(
            self._unfinished,
            self._request_timeout,
            now,
            ErrorCode.REQUEST_TIMEOUT,
            "The request took longer than the limit of {:g} s: ask for fewer tokens.",
        )

    @staticmethod
    def _late(
        sequences: OrderedDict[str, Sequence], limit: float, now: float, code: ErrorCode, text: str
    ) -> Iterator[tuple[Sequence, ErrorCode, str]]:
        while limit and sequences:
            oldest = next(iter(sequences.values()))
            if now < oldest.timings.arrived_at + limit:
                return
            yield oldest, code, text.format(limit)
            assert sequences.get(oldest.request.request_id) is not oldest, "forget who was late"
