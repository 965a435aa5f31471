"""What the engine's process is told: plain data that crosses as msgpack; the child loads the model.

The API process writes a recipe from the settings and a glance at the checkpoint's metadata; it
never imports torch. The child reads it in `server/load/load_engine.py`.
"""

from typing import Self

from msgspec import Struct

from thirdeye.server.settings.engine_settings import (
    CacheSettings,
    KernelSettings,
    PlacementSettings,
    SchedulingSettings,
    SpeculationSettings,
)
from thirdeye.server.settings.settings import Settings


class EngineRecipe(Struct, frozen=True, kw_only=True):
    """One engine to build."""

    model_path: str
    eos_token_ids: list[int]
    native_library: str  # the compiled kernels' file, which may not be there yet; empty: none
    placement: PlacementSettings
    kernels: KernelSettings
    scheduling: SchedulingSettings
    cache: CacheSettings
    speculation: SpeculationSettings
    max_adapters: int = 0  # that can be loaded at once
    max_adapter_bytes: int = 0  # of all of them together
    log_level: str = "info"
    log_format: str = "text"

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        model_path: str,
        eos_token_ids: list[int],
        native_library: str = "",
    ) -> Self:
        """The engine's part of the settings, and what was found out about the checkpoint."""
        return cls(
            model_path=model_path,
            eos_token_ids=eos_token_ids,
            native_library=native_library,
            placement=settings.placement,
            kernels=settings.kernels,
            scheduling=settings.scheduling,
            cache=settings.cache,
            speculation=settings.speculation,
            max_adapters=settings.adapters.num_slots,
            max_adapter_bytes=settings.adapters.memory_bytes,
            log_level=settings.processes.log_level,
            log_format=settings.processes.log_format,
        )
