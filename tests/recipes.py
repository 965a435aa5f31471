"""A recipe for an engine, from flags as `thirdeye serve` takes them.

Less is on than in a server: no deadlines and no guesses, unless they are asked for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.settings.engine_settings import GIB
from thirdeye.server.settings.read_settings import read_settings

QUIET = {"queue_timeout": 0, "request_timeout": 0, "speculation": "off"}


def make_recipe(
    model_path: Path | str = "",
    eos_token_ids: Sequence[int] = (),
    native_library: str = "",
    kv_memory_bytes: int | None = None,
    **flags: Any,
) -> EngineRecipe:
    """`kv_memory_bytes` are those of `--kv-memory`, which counts in GiB."""
    kv_memory = None if kv_memory_bytes is None else kv_memory_bytes / GIB
    return EngineRecipe.of(
        read_settings({**QUIET, "kv_memory": kv_memory, **flags}),
        model_path=str(model_path),
        eos_token_ids=list(eos_token_ids),
        native_library=native_library,
    )
