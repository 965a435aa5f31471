"""From options to what is deployed: the cluster's settings, and an application for each model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from thirdeye.server.cluster.cluster_settings import ClusterSettings, cluster_rows
from thirdeye.server.launch.several.model_specs import spec_of
from thirdeye.server.settings.read_settings import read_group, read_settings
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.catalog import DEFAULT

ANY_TIME = 3600.0  # seconds that a drain waits where requests may take any time


class AppSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an application is made of; the keys of `args` in a file for `serve deploy`."""

    options: dict[str, Any] = {}  # settings of `thirdeye serve`, by name
    replicas: int = 1
    autoscale: tuple[int, int] | None = None  # least and most
    cpus: float = 1.0  # of each replica
    gpus: int = 0


def split_options(options: Mapping[str, Any]) -> tuple[ClusterSettings, dict[str, Any]]:
    """The cluster's settings, and what each replica is told. Raises `pydantic.ValidationError`."""
    own = {row.name for row in cluster_rows()}
    cluster = read_group(ClusterSettings, {k: v for k, v in options.items() if k in own})
    of_replicas = {k: v for k, v in options.items() if k not in own}
    read_settings(of_replicas)
    return cluster, of_replicas


def longest_answer(settings: Settings) -> float:
    """Seconds: what a drain has to wait."""
    return settings.scheduling.request_timeout or ANY_TIME


def applications(
    cluster: ClusterSettings, options: Mapping[str, Any], cpus: float
) -> dict[str, AppSpec]:
    """By the path of each. Raises ValueError."""
    specs = [spec_of(word) for word in cluster.model] or [spec_of(DEFAULT.name)]
    if len(specs) > 1 and options.get("served_model_name"):
        raise ValueError("'--served-model-name' is of one model: say '--model' NAME=MODEL.")
    found: dict[str, AppSpec] = {}
    for spec in specs:
        path = "/" if len(specs) == 1 else f"/{spec.name or Path(str(spec.model)).stem}"
        if path in found:
            raise ValueError(f"'--model': two models are called {path[1:]}: say NAME=MODEL.")
        named = {k: v for k, v in spec.settings.items() if v}
        found[path] = AppSpec(
            options={**builtins(options), **named},
            replicas=cluster.replicas,
            autoscale=cluster.limits if cluster.autoscale else None,
            cpus=cpus,
            gpus=cluster.gpus,
        )
    return found


def builtins(options: Mapping[str, Any]) -> dict[str, Any]:
    """As Ray's files and messages hold it; a path is its text."""
    return {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in options.items()}
