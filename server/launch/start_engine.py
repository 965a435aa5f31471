"""The engine of a server: in a process of its own, which loads the weights, or in a thread of ours.

Nothing here imports torch, unless `--engine thread` brings both under one roof.
"""

import asyncio
from collections.abc import Callable

import msgspec

from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.process_engine import OnProgress, ProcessEngine
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.engine.process.supervised_engine import (
    KillableEngine,
    RestartPolicy,
    SupervisedEngine,
)
from thirdeye.server.launch.opened_model import OpenedModel
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.errors import ModelError


def write_recipe(settings: Settings, opened: OpenedModel) -> EngineRecipe:
    """What the engine is told, in plain data."""
    return EngineRecipe.of(
        settings,
        model_path=str(opened.path),
        eos_token_ids=sorted(opened.tokenizer.eos_token_ids),
        native_library=native_library(settings.kernels, settings.placement.device),
    )


async def start_engine(
    settings: Settings,
    recipe: EngineRecipe,
    on_progress: OnProgress,
    spawn: Callable[[], Spawned],
) -> SupervisedEngine:
    """A loaded engine, to be supervised. Raises `EngineDead` with the reason if loading fails."""
    if settings.processes.engine == "thread":
        num_ranks = settings.placement.tensor_parallel
        if num_ranks > 1:
            raise EngineDead(
                "'--engine' thread does not go with '--tensor-parallel' "
                f"{num_ranks}: ranks end together, and this one is the server. "
                "Use '--engine process'."
            )
        policy = RestartPolicy(max_deaths=1)  # it may have left anything behind in this process
        return await SupervisedEngine.start(lambda: start_thread(recipe, on_progress), policy)
    policy = RestartPolicy(step_timeout=settings.processes.step_timeout)
    return await SupervisedEngine.start(lambda: start_process(recipe, on_progress, spawn), policy)


async def start_process(
    recipe: EngineRecipe, on_progress: OnProgress, spawn: Callable[[], Spawned]
) -> KillableEngine:
    try:
        spawned = spawn()
    except OSError as error:
        raise EngineDead(f"The engine process cannot be started: {error}.") from error
    return await ProcessEngine.start(spawned, msgspec.msgpack.encode(recipe), on_progress)


async def start_thread(recipe: EngineRecipe, on_progress: OnProgress) -> KillableEngine:
    from thirdeye.server.engine.process.thread_engine import ThreadEngine  # noqa: PLC0415 (torch is wanted here alone)
    from thirdeye.server.load.load_engine import load_engine  # noqa: PLC0415

    try:
        core, info = await asyncio.to_thread(load_engine, recipe, on_progress)
    except (ValueError, OSError, ModelError) as error:
        raise EngineDead(str(error)) from error
    return ThreadEngine(core, info)
