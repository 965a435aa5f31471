"""The engine of a server: in a process of its own, which loads the weights, or in a thread of ours.

Nothing here imports torch, unless `--engine thread` brings both under one roof.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import msgspec

from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapters
from thirdeye.server.api.state.server_state import ServedModel, ServerState
from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.process_engine import OnProgress, ProcessEngine
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.engine.process.supervised_engine import (
    KillableEngine,
    RestartPolicy,
    SupervisedEngine,
)
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.launch.opened_model import OpenedModel
from thirdeye.server.launch.several.giving_way import leave_behind
from thirdeye.server.launch.several.load_priorities import Process
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.settings.settings import Settings
from thirdeye.weights.errors import ModelError

GivingWay = Callable[[Process], AbstractContextManager[None]]


def write_recipe(settings: Settings, opened: OpenedModel) -> EngineRecipe:
    """What the engine is told, in plain data."""
    return EngineRecipe.of(
        settings,
        model_path=str(opened.path),
        eos_token_ids=sorted(opened.tokenizer.eos_token_ids),
        native_library=native_library(settings.kernels, settings.placement.device),
    )


class ModelEngine:
    """One model's engine, which its state is told of. It can be started again once it is stopped.
    `spawn` starts its process, unless the engine is to be a thread. `max_deaths`: of an engine that
    is a process, until it is given up; some by default. `giving_way`: around a load, to other
    models; `are_others_asked`: whether an end has somebody to give way to."""

    def __init__(
        self,
        settings: Settings,
        opened: OpenedModel,
        state: ServerState,
        spawn: Callable[[], Spawned],
        max_deaths: int | None = None,
        giving_way: GivingWay = lambda _: nullcontext(),
        are_others_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._opened, self._state, self._spawn = settings, opened, state, spawn
        self._max_deaths = max_deaths or RestartPolicy().max_deaths
        self._giving_way, self._are_others_asked = giving_way, are_others_asked
        self.pid: int | None = None  # of the process that was started last
        self._engine: SupervisedEngine | None = None

    async def start(self, watch: OnProgress | None = None) -> EngineInfo:
        """Load the engine, telling `watch` how far it is, then let requests in. Raises `EngineDead`
        with the reason."""

        def on_progress(phase: str, done: int, total: int) -> None:
            self._state.detail = f"{phase} {done / total:.0%}"
            if watch is not None:
                watch(phase, done, total)

        recipe = write_recipe(self._settings, self._opened)
        engine = await start_engine(
            self._settings,
            recipe,
            on_progress,
            self._spawn_known,
            self._max_deaths,
            self._giving_way,
        )
        self._engine = engine
        try:
            self._state.ready(engine, await self._served_by(engine))
        except BaseException:  # whatever it is, a cancellation too: no process is left behind
            await engine.close()
            raise
        return engine.info

    async def _served_by(self, engine: SupervisedEngine) -> ServedModel:
        """With its adapters loaded. Raises `EngineDead` with the one that cannot be."""
        asked = self._settings.adapters
        adapters = LoadedAdapters(asked.lora_dir, [path for _, path in asked.named_paths])
        model = self._opened.serve(engine.info, adapters)
        for name, path in asked.named_paths:
            try:
                await adapters.load(engine, name, path, model.names)
            except InvalidRequest as error:
                raise EngineDead(f"'--lora' {name}: {error.message}") from error
        return model

    def _spawn_known(self) -> Spawned:
        spawned = self._spawn()
        self.pid = spawned.process.pid
        return spawned

    async def supervise(self) -> None:
        """Replace the engine when it dies, until it is stopped or this is cancelled. Raises
        `EngineDead` if it keeps dying. Only once it is started."""
        assert self._engine is not None
        await self._engine.supervise()

    async def stop(self) -> None:
        """Afterwards there is no process of it."""
        if self._engine is not None:
            if self.pid is not None and self._engine.is_alive and self._are_others_asked():
                leave_behind(self.pid)
            await self._engine.close()


async def start_engine(
    settings: Settings,
    recipe: EngineRecipe,
    on_progress: OnProgress,
    spawn: Callable[[], Spawned],
    max_deaths: int,
    giving_way: GivingWay,
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
    policy = RestartPolicy(max_deaths, step_timeout=settings.processes.step_timeout)
    return await SupervisedEngine.start(
        lambda: start_process(recipe, on_progress, spawn, giving_way), policy
    )


async def start_process(
    recipe: EngineRecipe,
    on_progress: OnProgress,
    spawn: Callable[[], Spawned],
    giving_way: GivingWay,
) -> KillableEngine:
    told = msgspec.msgpack.encode(recipe)
    try:
        spawned = spawn()
        if spawned.recipe not in (None, told):  # it was told ahead of something that has changed
            spawned.kill()
            spawned = spawn()
    except (OSError, MemoryError, RuntimeError) as error:  # no process, no memory, no thread
        raise EngineDead(f"The engine process cannot be started: {said(error)}.") from error
    try:
        with giving_way(spawned.process):
            return await ProcessEngine.start(spawned, told, on_progress)
    except BaseException:  # one that nobody looks after holds its memory for ever
        spawned.kill()
        raise


def said(error: Exception) -> str:
    """What an exception says, which for a lack of memory is nothing."""
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else repr(error))


async def start_thread(recipe: EngineRecipe, on_progress: OnProgress) -> KillableEngine:
    from thirdeye.server.engine.process.thread_engine import ThreadEngine  # noqa: PLC0415 (torch is wanted here alone)
    from thirdeye.server.load.load_engine import load_engine  # noqa: PLC0415

    try:
        core, info = await asyncio.to_thread(load_engine, recipe, on_progress)
    except (ValueError, OSError, ModelError) as error:
        raise EngineDead(str(error)) from error
    return ThreadEngine(core, info)
