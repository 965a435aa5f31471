"""The engine is told what to load as soon as that is known, before the web framework is imported.

That takes this process most of a second, in which the engine's can load. Only the plain case is
looked at, one model that is here; whatever else there is, and whatever is wrong, is for
`server_run.py`, which meets it again and says so.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from thirdeye.server import logs
from thirdeye.server.engine.process.process_engine import tell_ahead
from thirdeye.server.launch.opened_model import OpenedModel, open_model
from thirdeye.server.launch.several.model_specs import read_specs
from thirdeye.server.launch.spawner import EngineSpawner
from thirdeye.server.launch.start_engine import write_recipe
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class OpenedAhead:
    settings: Settings
    opened: OpenedModel


def open_ahead(options: dict[str, Any], spawner: EngineSpawner) -> OpenedAhead | None:
    """Open the model, and tell the process that was started ahead; None where more is asked."""
    try:
        settings = read_settings(options)
        if not is_plain(settings):
            return None
        logs.configure(settings.processes.log_level, settings.processes.log_format)
        opened = open_model(settings.checkpoint)
        recipe = msgspec.msgpack.encode(write_recipe(settings, opened))
    except Exception:  # whatever is wrong is met again, and said there
        return None
    if spawner.ahead is not None:
        tell_ahead(spawner.ahead, recipe)
    return OpenedAhead(settings, opened)


def is_plain(settings: Settings) -> bool:
    """Whether it is one model's, whose name says nothing more, that is served as it lies there by
    an engine in a process."""
    if settings.pool.models or settings.pool.more_models or settings.checkpoint.verify:
        return False
    specs = read_specs(settings.checkpoint.model, settings.pool)
    return settings.processes.engine == "process" and not (specs and specs[0].name)
