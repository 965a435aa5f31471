"""The process that talks to Ray, which deploys changed replicas: see `changed_replica`."""

from collections.abc import Mapping
from typing import Any

from tests.bench.cluster.changed_replica import change_protocol
from thirdeye.server.cluster.on_ray import applications, driver
from thirdeye.server.cluster.on_ray.served_replica import ServedReplica


class ChangedReplica(ServedReplica):
    async def __init__(self, options: Mapping[str, Any], threads: int) -> None:  # type: ignore[misc]
        change_protocol()
        await super().__init__(options, threads)  # type: ignore[misc]


if __name__ == "__main__":
    applications.ServedReplica = ChangedReplica  # type: ignore[misc]
    raise SystemExit(driver.main())
