"""The settings of a server of several models."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thirdeye.server.settings.engine_settings import MOST_GIB
from thirdeye.server.settings.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Models that share a server: see [several-models.md](several-models.md)."""

    title: ClassVar[str] = "Several models"

    more_models: tuple[str, ...] = setting(
        (), "More models, loaded when a request names them; NAME=MODEL and NAME@org/name name one"
    )
    models: Path | None = setting(
        None, "TOML file of models, a table each, with settings of their own", unit="FILE"
    )
    memory: float | None = setting(
        None,
        "Memory for all models that are loaded at once",
        above=0,
        at_most=MOST_GIB,
        unit="GIB",
        shown="CPU: 0.8 of what is free at start",
    )
    keep_alive: float = setting(
        300.0,
        "How long a model stays loaded without use; below 0: for ever",
        unit="SECONDS",
    )
    pin: tuple[str, ...] = setting(
        (), "Load this model at start, and keep it", unit="NAME", shown="none"
    )
    preload: tuple[str, ...] = setting(
        (), "Load this model at start", unit="NAME", shown="the first, and those pinned"
    )
    load_queue: int = setting(
        64, "Requests that may wait for a model that is being loaded", at_least=0
    )
    load_timeout: float = setting(
        120.0, "How long a request may wait for its model", above=0, unit="SECONDS"
    )
