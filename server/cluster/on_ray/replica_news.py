"""Between Ray's request router, which Ray makes itself, and whoever in this process wants to know
of a deployment's replicas."""

from collections.abc import Callable
from typing import Final

from thirdeye.server.cluster.picking.picker import Report

Reports = dict[str, Report]  # by a replica's name in HAProxy's map


class ReplicaNews:
    """By the deployment's name, those who want to be told."""

    def __init__(self) -> None:
        self._told: dict[str, Callable[[Reports], None]] = {}

    def watch(self, deployment: str, told: Callable[[Reports], None]) -> None:
        """Call `told` with the deployment's replicas whenever Ray tells of them."""
        self._told[deployment] = told

    def tell(self, deployment: str, reports: Reports) -> None:
        if told := self._told.get(deployment):
            told(reports)


NEWS: Final = ReplicaNews()  # of this process, as Ray gives its router nothing of ours to hold
