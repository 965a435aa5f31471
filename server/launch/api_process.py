"""The composition root of the API process: settings become a described model, an app and an engine.

Nothing here imports torch: a checkpoint is described from its metadata, and the engine's process,
built by `server/load/load_engine.py`, loads the weights. Only `--engine thread` brings both under
one roof.
"""

import asyncio
import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from fastapi import FastAPI

from thirdeye.model.config import ModelConfig
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.auth import LOOPBACK_HOSTS
from thirdeye.server.api.state.identity import Identity
from thirdeye.server.api.state.server_state import ModelInfo, ServedModel, ServerState
from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.process_engine import OnProgress, ProcessEngine
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.engine.process.supervised_engine import (
    KillableEngine,
    RestartPolicy,
    SupervisedEngine,
)
from thirdeye.server.launch.asgi_app import create_app
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.server.settings.settings import Settings
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.tools.form import MARKUP
from thirdeye.weights.catalog import CATALOG, DEFAULT
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.resolve import resolve_model
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

VERSION = importlib.metadata.version("thirdeye-server")
ROOT = Path(__file__).resolve().parents[2]  # the rooms lie side by side, installed or not


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """All that the API process knows of a checkpoint: everything but its tensors. The file's own
    description, whose vocabulary is as large as the tokenizer made of it, is not kept."""

    path: Path
    config: ModelConfig
    fingerprint: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    names: tuple[str, ...]

    def serve(self, info: EngineInfo) -> ServedModel:
        """The same model as the API shows it, once the engine is loaded."""
        who = identify(self.fingerprint, self.tokenizer, info)
        return ServedModel(
            names=self.names,
            tokenizer=self.tokenizer,
            template=self.template,
            max_model_len=info.max_model_len,
            created=int(time.time()),
            fingerprint=who.fingerprint,
            identity=who,
            info=model_info(self.config),
        )


def open_model(settings: Settings) -> OpenedModel:
    """Find and describe the model. Raises ModelError, ChatTemplateError or OSError."""
    asked = settings.checkpoint
    checkpoint = open_checkpoint(resolve_model(asked.model))
    tokenizer = checkpoint.tokenizer(never_from_text=MARKUP)
    source = checkpoint.chat_template
    if asked.chat_template is not None:
        source = read_template(asked.chat_template)
    return OpenedModel(
        path=checkpoint.path,
        config=checkpoint.config,
        fingerprint=checkpoint.fingerprint,
        tokenizer=tokenizer,
        template=ChatTemplate(source, tokenizer) if source else None,
        names=served_names(asked, checkpoint),
    )


def read_template(path: Path) -> str:
    """Raises OSError, or ChatTemplateError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ChatTemplateError(f"'--chat-template' {path} is not UTF-8.") from None


def served_names(asked: CheckpointSettings, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What clients may call the model: as the operator says, else its catalog and own name."""
    if asked.served_model_name:
        return asked.served_model_name
    if asked.model is None:
        return (DEFAULT.name, checkpoint.name)
    if asked.model in CATALOG or not Path(asked.model).exists():
        return (asked.model, checkpoint.name)
    return (checkpoint.name,)


def model_info(config: ModelConfig) -> ModelInfo:
    return ModelInfo(
        num_layers=config.num_hidden_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        hidden_size=config.hidden_size,
        parameters=asdict(parameter_counts(config)),
    )


def identify(weights: str, tokenizer: Tokenizer, info: EngineInfo) -> Identity:
    """All that decides which tokens this server answers with; `weights` is their fingerprint."""
    return Identity(
        version=VERSION,
        build=build_digest(),
        weights=weights,
        tokenizer=tokenizer.fingerprint,
        numerics=f"{info.device} {info.dtype}, {info.numerics}",
    )


def build_digest() -> str:
    """SHA-256 over the sources that make tokens: a version's name outlives many changes of them."""
    digest = hashlib.sha256()
    for room in ("model", "server/engine", "server/text", "weights"):
        files = (path for end in ("py", "c", "h") for path in (ROOT / room).rglob(f"*.{end}"))
        for path in sorted(files):
            digest.update(f"{path.relative_to(ROOT).as_posix()} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build_app(settings: Settings, state: ServerState) -> FastAPI:
    """The HTTP application over a state that may still be loading."""
    network, access, requests = settings.network, settings.access, settings.requests
    is_local = network.host in ("127.0.0.1", "localhost", "::1")
    config = ApiConfig(
        api_keys=access.api_keys(),
        allowed_hosts=LOOPBACK_HOSTS if is_local else None,
        sse_ping=network.sse_ping,
        send_timeout=network.send_timeout,
        version=VERSION,
        max_n=requests.max_n,
        max_stop=requests.max_stop,
        requests_per_minute=access.requests_per_minute,
        tokens_per_minute=access.tokens_per_minute,
        lenient=requests.lenient,
        cors_origins=network.cors_origin,
    )
    return create_app(state, config)


def write_recipe(settings: Settings, opened: OpenedModel) -> EngineRecipe:
    """What the engine is told, in plain data."""
    return EngineRecipe.of(
        settings,
        model_path=str(opened.path),
        eos_token_ids=sorted(opened.tokenizer.eos_token_ids),
        native_library=native_library(settings.kernels.native, settings.placement.device),
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
