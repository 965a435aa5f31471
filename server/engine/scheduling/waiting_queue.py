"""Who waits, and who is next.

1. The lowest priority value goes first, whatever else waits.
2. Within a priority, what was already admitted once and preempted comes back first, in the order of
   its first admission: at most `max_num_seqs` such sequences are ahead of anybody.
3. Then the tenant that has been served least (`tenant_shares.py`), the longest waiting one of
   equals; and within a tenant, first come, first served. Who came first and was not ready then,
   since its grammar was being compiled, keeps its turn.
"""

from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter

from thirdeye.server.engine.scheduling.sequence import Sequence

by_order = attrgetter("order")
by_arrival = attrgetter("arrival")


@dataclass(slots=True)
class PriorityLevel:
    """The waiting sequences of one priority."""

    preempted: list[Sequence] = field(default_factory=list)  # by order
    arrived: dict[str, deque[Sequence]] = field(default_factory=dict)  # tenant -> by arrival

    @property
    def is_empty(self) -> bool:
        return not self.preempted and not self.arrived

    def peek(self) -> Sequence:
        if self.preempted:
            return self.preempted[0]
        heads = (queue[0] for queue in self.arrived.values())
        return min(heads, key=lambda head: (head.share.served, head.arrival))

    def remove(self, sequence: Sequence) -> None:
        if sequence.turn is not None:
            self.preempted.remove(sequence)
            return
        tenant = sequence.request.tenant
        queue = self.arrived[tenant]
        queue.remove(sequence)
        if not queue:
            del self.arrived[tenant]


class WaitingQueue:
    def __init__(self) -> None:
        self._levels: dict[int, PriorityLevel] = {}  # priority -> its level, if it is not empty
        self._num_sequences = 0

    def __len__(self) -> int:
        return self._num_sequences

    def push(self, sequence: Sequence) -> None:
        """A new sequence, or a preempted one, which keeps its order."""
        level = self._levels.setdefault(sequence.request.priority, PriorityLevel())
        if sequence.turn is None:
            queue = level.arrived.setdefault(sequence.request.tenant, deque())
            insort(queue, sequence, key=by_arrival)
        else:
            insort(level.preempted, sequence, key=by_order)
        self._num_sequences += 1

    def peek(self) -> Sequence:
        return self._levels[min(self._levels)].peek()

    def remove(self, sequence: Sequence) -> None:
        priority = sequence.request.priority
        level = self._levels[priority]
        level.remove(sequence)
        if level.is_empty:
            del self._levels[priority]
        self._num_sequences -= 1
