"""What `thirdeye cluster up` can be told beside the settings of each replica."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thirdeye.server.settings.setting import Setting, setting, settings_of
from thirdeye.server.settings.settings import all_settings

NOT_FOR_REPLICAS = {
    "model": "say it once for each model: '--model'",
    "more_models": "each '--model' is an app of its own",
    "models": "each '--model' is an app of its own",
    "memory": "each replica has one model",
    "keep_alive": "each replica has one model, and keeps it",
    "pin": "each replica has one model, and keeps it",
    "preload": "each replica has one model, and keeps it",
    "load_queue": "each replica has one model",
    "load_timeout": "each replica has one model",
    "api_key": "Ray would store it: '--api-key-file'",
    "root_path": "an app's path is the name of its model",
    "drain_delay": "Ray drains a replica for as long as '--request-timeout'",
    "drain_timeout": "Ray drains a replica for as long as '--request-timeout'",
    "engine": "the engine's death is the replica's",
    "remote_ranks": "a replica is on one machine",
    "rank_address": "a replica is on one machine",
    "rank_secret_file": "a replica is on one machine",
    "yes": "run 'thirdeye pull' on each machine",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Replicas on Ray Serve."""

    title: ClassVar[str] = "Cluster"

    replicas: int = setting(1, "Replicas of each model", at_least=1, at_most=1000, is_common=True)
    model: tuple[str, ...] = setting(
        (),
        "A model, as 'thirdeye serve' takes it, or NAME=MODEL; several: each at /NAME/v1",
        unit="MODEL",
        shown="smollm2",
        is_common=True,
    )
    autoscale: str | None = setting(
        None,
        "Let the load decide how many replicas there are",
        pattern=r"^[1-9]\d{0,3}:[1-9]\d{0,3}$",
        unit="MIN:MAX",
        is_common=True,
    )
    cpus: float | None = setting(
        None,
        "CPU cores of each replica",
        above=0,
        unit="CORES",
        shown="this machine's, divided by the replicas",
    )
    gpus: int = setting(0, "GPUs of each replica", at_least=0, at_most=64)
    node_address: str = setting(
        "127.0.0.1",
        "This machine's address among those of the cluster; others join there",
        unit="ADDRESS",
    )
    ray_port: int = setting(
        6379, "Where Ray's head listens, for the cluster itself", at_least=1, at_most=65535
    )
    state_dir: Path | None = setting(
        None,
        "What the cluster keeps: its token, its head's state, logs",
        unit="DIRECTORY",
        shown="~/.cache/thirdeye/cluster",
    )

    @property
    def limits(self) -> tuple[int, int]:
        """Least and most replicas of each model. Raises ValueError."""
        if self.autoscale is None:
            return self.replicas, self.replicas
        least, most = (int(part) for part in self.autoscale.split(":"))
        if least > most:
            raise ValueError(f"'--autoscale' {self.autoscale}: the first must not be the larger.")
        return least, most

    @property
    def is_alone(self) -> bool:
        """Whether all of it is on this machine, and talks over loopback."""
        return self.node_address in ("127.0.0.1", "localhost")

    def cpus_each(self, num_cores: int) -> float:
        """Raises ValueError where one machine does not have what is asked for: Ray would wait for
        another without end."""
        num_replicas = self.limits[1] * max(len(self.model), 1)
        each = self.cpus if self.cpus is not None else max(num_cores // num_replicas, 1)
        if self.is_alone and each * num_replicas > num_cores:
            raise ValueError(
                f"{num_replicas} replicas of {each:g} cores want {each * num_replicas:g}, and this "
                f"machine has {num_cores}: say '--cpus' {num_cores / num_replicas:.2g}, or fewer "
                "replicas, or '--node-address' for a cluster of several machines."
            )
        return each


def cluster_rows() -> list[Setting]:
    return list(settings_of(ClusterSettings))


def replica_rows() -> list[Setting]:
    """The settings of `thirdeye serve` that a replica can have."""
    return [row for row in all_settings() if row.name not in NOT_FOR_REPLICAS]
