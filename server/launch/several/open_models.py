"""Models as an operator named them become members of a pool, none of them loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelTerms, gib
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE
from thirdeye.server.engine.interface.types import EngineInfo
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.asgi_app import model_router
from thirdeye.server.launch.opened_model import OpenedModel, is_pattern, open_model
from thirdeye.server.launch.several.giving_way import may_take_back
from thirdeye.server.launch.several.load_priorities import LoadPriorities
from thirdeye.server.launch.several.memory_needs import memory_bound, needed_bytes, with_kv_memory
from thirdeye.server.launch.several.model_specs import ModelSpec, ModelsUnclear
from thirdeye.server.launch.several.precedence import Precedence
from thirdeye.server.launch.start_engine import ModelEngine
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """One model, described and not loaded."""

    spec: ModelSpec
    settings: Settings
    model: OpenedModel

    @property
    def name(self) -> str:
        return next(name for name in self.model.names if not is_pattern(name))


def settings_of_models(
    specs: Sequence[ModelSpec], settings: Settings, options: Mapping[str, object]
) -> list[tuple[ModelSpec, Settings]]:
    """Each model's settings: the flags that were given, and over them its own. Raises
    `ModelsUnclear`, or pydantic's `ValidationError`."""
    if settings.checkpoint.served_model_name:
        raise ModelsUnclear("'--served-model-name' is of one model: write NAME=MODEL for each.")
    if settings.processes.engine == "thread":
        raise ModelsUnclear("'--engine' thread is for one model: a thread's memory never ends.")
    if settings.adapters.num_slots or any("lora" in one for s in specs for one in s.settings):
        raise ModelsUnclear("'--lora' and '--lora-dir' are for a server of one model.")
    return [(spec, read_settings({**options, **spec.settings})) for spec in specs]


def open_models(asked: Sequence[tuple[ModelSpec, Settings]]) -> list[Opened]:
    """Raises ModelError, ChatTemplateError or OSError, or `ModelsUnclear` for two of one name. A
    name that is not its first, and is an earlier model's, a model has not."""
    taken: set[str] = set()
    found: list[Opened] = []
    for spec, settings in asked:
        model = open_model(settings.checkpoint)
        settings = with_kv_memory(settings, model.config)
        one = Opened(spec, settings, model)
        if one.name in taken:
            raise ModelsUnclear(f"two models are called {one.name}: name one of them, NAME=MODEL.")
        names = tuple(name for name in model.names if name not in taken)
        taken.update(names)
        found.append(replace(one, model=replace(model, names=names)))
    return found


def make_pool(
    opened: Sequence[Opened],
    settings: Settings,
    config: ApiConfig,
    spawn: Callable[[], Spawned],
) -> ModelPool:
    """Raises `DoesNotFit`, or `ModelsUnclear`."""
    asked, names = settings.pool, {one.name for one in opened}
    for flag, given in (("--pin", asked.pin), ("--preload", asked.preload)):
        for name in given:
            if name not in names:
                raise ModelsUnclear(
                    f"'{flag}' {name} is none of the models: they are {', '.join(sorted(names))}."
                )
    bound = memory_bound([one.settings for one in opened], asked.memory)
    states = [ServerState() for _ in opened]
    loads = LoadPriorities() if may_take_back() else None
    engines = [
        ModelEngine(one.settings, one.model, state, spawn, **beside_others(one.name, loads))
        for one, state in zip(opened, states, strict=True)
    ]
    members = [
        _member(one, state, settings, config, engine)
        for one, state, engine in zip(opened, states, engines, strict=True)
    ]
    pool = ModelPool(members, bound, max_waiting=asked.load_queue, max_wait=asked.load_timeout)
    if loads is not None:
        by_name = {one.name: engine for one, engine in zip(opened, engines, strict=True)}
        pool.on_change = Precedence(pool, by_name, loads).look
    return pool


def loaded_at_start(opened: Sequence[Opened], settings: Settings, pool: ModelPool) -> list[str]:
    """Names. Raises `ModelsUnclear` if they do not fit together."""
    wanted = set(settings.pool.preload) | {one.name for one in opened if one.spec.is_preloaded}
    wanted = wanted or {opened[0].name}
    terms = [member.terms for member in pool.members.values()]
    chosen = [one for one in terms if one.is_pinned or one.name in wanted]
    total = sum(one.num_bytes for one in chosen)
    if total > pool.residency.max_bytes:
        raise ModelsUnclear(
            f"'--memory': what is to be loaded at start takes {gib(total)} GiB, "
            f"{gib(pool.residency.max_bytes)} are allowed: raise it, or '--preload' fewer."
        )
    return [one.name for one in chosen]


def beside_others(name: str, loads: LoadPriorities | None) -> dict[str, Any]:
    """How a model's engine learns of the others, unless none may give way."""
    if loads is None:
        return {}
    return {
        "giving_way": partial(loads.loading, name),
        "are_others_asked": partial(loads.are_others_asked, name),
    }


def _member(
    one: Opened,
    state: ServerState,
    settings: Settings,
    config: ApiConfig,
    engine: ModelEngine,
) -> PoolMember:
    context = Context.of(state, config)
    keep_alive = one.spec.keep_alive
    terms = ModelTerms(
        one.name,
        needed_bytes(one.settings, one.model),
        is_pinned=one.spec.is_pinned or one.name in settings.pool.pin,
        keep_alive=settings.pool.keep_alive if keep_alive is None else keep_alive,
    )
    info = expected(one)
    return PoolMember(
        terms,
        state,
        context.metrics,
        model_router(context),
        engine,
        (info, one.model.serve(info)),
    )


def expected(one: Opened) -> EngineInfo:
    """What its engine will be, as far as it is known before."""
    config, scheduling = one.model.config, one.settings.scheduling
    counts: dict[str, Any] = dict(one.model.info.parameters)
    return EngineInfo(
        num_parameters=sum(counts.values()),
        max_model_len=scheduling.max_model_len or config.max_position_embeddings,
        vocab_size=config.vocab_size,
        device=one.settings.placement.device,
        dtype=one.settings.placement.dtype,
        num_blocks=0,
        block_size=BLOCK_SIZE,
        max_num_seqs=scheduling.max_num_seqs,
    )
