"""Between Ray's request router, which Ray makes itself, and whoever in this process wants to know
of a deployment's replicas."""

from collections.abc import Callable
from typing import Final

from thirdeye.server.cluster.picking.asking_picker import Ask
from thirdeye.server.cluster.picking.picker import Report

Told = Callable[[dict[str, Report], dict[str, Ask]], None]  # by a replica's name in HAProxy's map


class ReplicaNews:
    """By the deployment's name, those who want to be told."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def watch(self, deployment: str, told: Told) -> None:
        """Call `told` with the deployment's replicas whenever Ray tells of them: what each has last
        reported, and how it is asked."""
        self._told[deployment] = told

    def tell(self, deployment: str, reports: dict[str, Report], asks: dict[str, Ask]) -> None:
        if told := self._told.get(deployment):
            told(reports, asks)


NEWS: Final = ReplicaNews()  # of this process, as Ray gives its router nothing of ours to hold
