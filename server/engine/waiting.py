"""Who waits, and who is next: lower priority value first, then first come, first served."""

from bisect import insort
from operator import attrgetter

from server.engine.sequence import Sequence


class WaitingQueue:
    """Sorted by `Sequence.order`, last first, so that the next one is popped from the end."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def push(self, sequence: Sequence) -> None:
        """A preempted sequence keeps its order: it comes back before those that arrived later."""
        insort(self._sequences, sequence, key=_last_first)

    def peek(self) -> Sequence:
        return self._sequences[-1]

    def pop(self) -> Sequence:
        return self._sequences.pop()

    def remove(self, sequence: Sequence) -> None:
        self._sequences.remove(sequence)


def _last_first(sequence: Sequence) -> tuple[int, int]:
    priority, arrival = sequence.order
    return -priority, -arrival


by_order = attrgetter("order")
