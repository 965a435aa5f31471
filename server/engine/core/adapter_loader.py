"""Adapters come and go between two steps, while others are computed.

    start -> its files are read and prepared by a thread -> installed between two steps -> a report
    unload -> freed at once, or when the last request that has it has ended

It knows no file and no tensor: how an adapter is read, and where it is put, it is given.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource

MIB = 1 << 20


class AdapterFiles(NamedTuple):
    """An adapter that was read, and prepared for where it will lie."""

    prepared: Any
    num_bytes: int
    rank: int
    fingerprint: str
    base: str  # the model that it was made for; empty: it does not say


class Slots(Protocol):
    """Where a model keeps its adapters."""

    def prepare(self, factors: Any) -> Any:
        """What `install` takes: by another thread."""

    def install(self, adapter: int, prepared: Any) -> None:
        """Raises ValueError if there is no slot left."""

    def unload(self, adapter: int) -> None: ...

    @property
    def slots(self) -> Mapping[int, int]: ...

    @property
    def num_bytes(self) -> int: ...


class AdapterLoader:
    """For one thread, the engine's, but for what it does in one of its own."""

    def __init__(self, table: Slots, read: Callable[[str], AdapterFiles], max_bytes: int) -> None:
        """`read`, of a path, raises ValueError or OSError with a text for the operator."""
        self._table, self._read, self._max_bytes = table, read, max_bytes
        self._executor = ThreadPoolExecutor(1, "engine-adapters")
        self._done: SimpleQueue[tuple[AdapterSource, Future[AdapterFiles]]] = SimpleQueue()
        self._reports: list[AdapterReport] = []
        self._leaving: set[int] = set()
        self.wake: Callable[[], None] = lambda: None  # called, by its thread, when one is read

    def start(self, source: AdapterSource) -> None:
        """A report of it comes later, in any case."""
        future = self._executor.submit(self._read, source.path)
        future.add_done_callback(lambda done: self._finish(source, done))

    def _finish(self, source: AdapterSource, future: "Future[AdapterFiles]") -> None:
        self._done.put((source, future))
        self.wake()

    @property
    def has_work(self) -> bool:
        return bool(self._reports) or not self._done.empty()

    def install(self) -> None:
        """Those that have been read since."""
        while True:
            try:
                source, future = self._done.get_nowait()
            except Empty:
                return
            self._reports.append(self._installed(source, future))

    def _installed(self, source: AdapterSource, future: "Future[AdapterFiles]") -> AdapterReport:
        try:
            files = future.result()
            if (total := self._table.num_bytes + files.num_bytes) > self._max_bytes:
                raise ValueError(
                    f"all adapters together would take {total / MIB:.2f} MiB, '--lora-memory' is "
                    f"{self._max_bytes / MIB:.2f} MiB: unload one, or raise it."
                )
            self._table.install(source.number, files.prepared)
        except (ValueError, OSError) as error:
            return AdapterReport(number=source.number, error=str(error))
        return AdapterReport(
            number=source.number,
            rank=files.rank,
            num_bytes=files.num_bytes,
            fingerprint=files.fingerprint,
            base=files.base,
        )

    def pop_reports(self) -> list[AdapterReport]:
        reports, self._reports = self._reports, []
        return reports

    def has(self, number: int) -> bool:
        """Whether a request may have it: until it is freed."""
        return number in self._table.slots

    def unload(self, number: int) -> None:
        """As soon as nobody has it; unknown numbers are ignored."""
        if self.has(number):
            self._leaving.add(number)

    @property
    def is_waiting(self) -> bool:
        """Whether one that shall leave is still there."""
        return bool(self._leaving)

    def free(self, in_use: set[int]) -> None:
        """Those that shall leave, but for these."""
        for number in self._leaving - in_use:
            self._table.unload(number)
        self._leaving &= in_use

    @property
    def num_loaded(self) -> int:
        return len(self._table.slots)

    @property
    def num_bytes(self) -> int:
        return self._table.num_bytes
