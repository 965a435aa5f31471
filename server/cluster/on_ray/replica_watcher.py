"""Ray's request router of our deployment. It tells this process of the replicas.

Ray makes one in every process that holds a handle to the deployment, of a copy of this class: it is
sent as its source is, and what it shares with the process lies in `replica_news`. Its own choice is
used by nobody but Ray's fallback proxy.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from thirdeye.server.cluster.on_ray import replica_news  # a module is not sent
from thirdeye.server.cluster.picking.picker import Report


class ReplicaWatcher(RequestRouter):  # type: ignore[misc]  # Ray is an extra
    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        named = {replica.replica_id.to_full_id_str(): replica for replica in replicas}
        replica_news.NEWS.tell(
            self._deployment_id.name,
            {name: report_of(replica.routing_stats) for name, replica in named.items()},
            {name: partial(ask, replica) for name, replica in named.items()},
        )

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,  # noqa: ARG002 (Ray's words for it)
    ) -> Sequence[Sequence[RunningReplica]]:
        """All of them alike: Ray takes the least busy."""
        return [candidate_replicas]


async def ask(replica: Any) -> Report:
    """By the call of Ray's controller, which asks the same every second if it has the time."""
    return report_of(await replica._actor_handle.record_routing_stats.remote())


def report_of(stats: Mapping[str, Any]) -> Report:
    return Report(int(stats.get("under_way", 0)), float(stats.get("time", 0.0)))
