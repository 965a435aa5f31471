"""Which replica gets a request, by what is known of each: who has its prefix, who has how much.

A replica reports now and then how many answers are under way there; what was sent after its latest
report is counted on top. What ended since is not known, so a replica may seem busier than it is,
for as long as a report is old: see `asking_picker` for what is done about that.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from thirdeye.server.cluster.picking.replica_ring import ReplicaRing, pick_replica

MOST_ASKED = 16  # replicas, before a request leaves its own
LATE = 2.0  # seconds: a report that is older may tell of answers that have ended


class Report(NamedTuple):
    """What a replica said of itself."""

    under_way: int = 0
    time: float = 0.0  # when, in unix seconds of its own clock


@dataclass(slots=True)
class _Load:
    report: Report
    sent: deque[float] = field(default_factory=deque)  # when; after the report

    @property
    def under_way(self) -> int:
        return self.report.under_way + len(self.sent)

    def may_be_less(self, now: float) -> bool:
        """Whether answers may have ended that still count."""
        is_late = now > self.report.time + LATE
        return bool(self.sent) or (is_late and self.report.under_way > 0)

    def take(self, report: Report) -> None:
        if report.time > self.report.time:
            self.report = report
            while self.sent and self.sent[0] <= report.time:
                self.sent.popleft()


class Picker:
    """Told of the replicas by `update`, asked by `pick`. `idle_below`: a replica with fewer answers
    under way has room whatever the others have, as sharing a prefix is worth more there."""

    def __init__(self, idle_below: int = 0) -> None:
        self._idle_below = idle_below
        self._ring: ReplicaRing | None = None
        self._loads: dict[str, _Load] = {}
        self._turn = 0  # of requests without a key

    def update(self, reports: Mapping[str, Report]) -> None:
        """These replicas are there, and no others; each with its latest report."""
        if reports.keys() != self._loads.keys():
            self._ring = ReplicaRing(sorted(reports)) if reports else None
            kept = self._loads
            self._loads = {name: kept.get(name) or _Load(Report()) for name in sorted(reports)}
        for name, report in reports.items():
            self._loads[name].take(report)

    def take(self, name: str, report: Report) -> None:
        """A later report of one replica, if that is still there."""
        if load := self._loads.get(name):
            load.take(report)

    def latest(self, name: str) -> Report | None:
        """What a replica has last reported; None if it is not there."""
        load = self._loads.get(name)
        return None if load is None else load.report

    def doubted(self, key: bytes, now: float) -> list[str]:
        """Whose load must be known better before a request with this key goes elsewhere than to
        its own replica at `now` (unix seconds): nobody's, if it does not. In the order in which the
        key asks them."""
        if self._ring is None:
            return []
        order = list(islice(self._ring.from_key(key), MOST_ASKED))
        loads = self.loads()
        if pick_replica(self._ring, key, loads, idle_below=self._idle_below) == order[0]:
            return []
        return [name for name in order if self._loads[name].may_be_less(now)]

    def loads(self) -> dict[str, int]:
        """How many answers are thought to be under way at each."""
        return {name: load.under_way for name, load in self._loads.items()}

    def pick(self, key: bytes | None, now: float) -> str | None:
        """The replica for a request at `now` (unix seconds), which counts from now on; None where
        there is none. A request without a key goes to the least busy, in turn."""
        if self._ring is None:
            return None
        loads = self.loads()
        if key is None:
            self._turn += 1
            names = list(loads)
            ahead = self._turn % len(names)
            picked = min(names[ahead:] + names[:ahead], key=loads.__getitem__)
        else:
            picked = pick_replica(self._ring, key, loads, idle_below=self._idle_below)
        self._loads[picked].sent.append(now)
        return picked
