"""Every setting of the server: groups of rows, and a new setting is one row and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import cast

from thirdeye.server.settings.adapter_settings import AdapterSettings
from thirdeye.server.settings.api_settings import (
    AccessSettings,
    CheckpointSettings,
    NetworkSettings,
    ProcessSettings,
    RequestSettings,
)
from thirdeye.server.settings.engine_settings import (
    CacheSettings,
    KernelSettings,
    PlacementSettings,
    SchedulingSettings,
    SpeculationSettings,
)
from thirdeye.server.settings.pool_settings import PoolSettings
from thirdeye.server.settings.setting import Group, Setting, settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `thirdeye serve` can be told. A name stands once in all groups together."""

    network: NetworkSettings = NetworkSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    pool: PoolSettings = PoolSettings()
    adapters: AdapterSettings = AdapterSettings()
    access: AccessSettings = AccessSettings()
    requests: RequestSettings = RequestSettings()
    processes: ProcessSettings = ProcessSettings()
    placement: PlacementSettings = PlacementSettings()
    kernels: KernelSettings = KernelSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    cache: CacheSettings = CacheSettings()
    speculation: SpeculationSettings = SpeculationSettings()


GROUPS = {group.name: cast("type[Group]", group.type) for group in fields(Settings)}


def all_settings() -> Iterator[Setting]:
    """The table, row by row."""
    for group in GROUPS.values():
        yield from settings_of(group)
