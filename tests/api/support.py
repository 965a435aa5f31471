"""A byte tokenizer, a template and a server over the fake engine: API tests load no model.

Ids 0..255 are bytes; 256 is BOS, 257 is EOS (`<|end|>`), 258 starts a turn (`<|turn|>`).
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import Scope

from tests.api.threaded_server import ThreadedServer
from tests.engine.process.fake_engine import FakeEngine, fake_info
from tests.engine.process.fake_traces import FAKE_HEAD_DIM, FAKE_HEADS, FAKE_LAYERS, FAKE_WIDTH
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ModelInfo, ServedModel, ServerState
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.launch.asgi_app import App, all_routers, app_with, create_app
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.tracing.request_trace import NO_TRACER, Tracer
from thirdeye.server.transport.connection_guard import GuardedProtocol

BOS, EOS, TURN = 256, 257, 258
VOCAB_SIZE = 260
CONTEXT = 512


class ByteTokenizer:
    vocab_size = VOCAB_SIZE
    strips: ClassVar[dict[str, tuple[bool, bool]]] = {}
    special_tokens: ClassVar = {"<|bos|>": BOS, "<|end|>": EOS, "<|turn|>": TURN}
    bos_token_id = BOS
    eos_token_ids = frozenset({EOS})
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    max_token_bytes = 8

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:
        return list(text.encode())

    def encode_with_special(self, text: str) -> list[int]:
        for literal, token_id in self.special_tokens.items():
            if literal in text:
                before, _, after = text.partition(literal)
                return [
                    *self.encode_with_special(before),
                    token_id,
                    *self.encode_with_special(after),
                ]
        return self.encode(text)

    def merge_rank(self, token_id: int) -> int | None:
        return token_id if token_id < 256 else None

    def token_bytes(self, token_id: int) -> bytes:
        literals = {v: k for k, v in self.special_tokens.items()}
        if token_id in literals:
            return literals[token_id].encode()
        return bytes([token_id]) if token_id < 256 else b""


TEMPLATE = """\
{%- for message in messages -%}<|turn|>{{ message.role }}
{{ message.content }}{%- endfor -%}
{%- if add_generation_prompt -%}<|turn|>assistant
{% endif -%}"""


@cache
def template() -> ChatTemplate:
    """One for all tests, as it is one for all requests: it takes 4 ms to make."""
    return ChatTemplate(TEMPLATE, ByteTokenizer())


def served_model(**changes: Any) -> ServedModel:
    fields: dict[str, Any] = {
        "names": ("tiny", "org/tiny"),
        "tokenizer": ByteTokenizer(),
        "template": template(),
        "max_model_len": CONTEXT,
        "created": 1_700_000_000,
        "fingerprint": "te-test",
        "info": ModelInfo(
            FAKE_LAYERS,
            FAKE_HEADS,
            1,
            FAKE_WIDTH,
            {"mlp": 8, "query": 4},
            head_dim=FAKE_HEAD_DIM,
            num_neurons=8,
        ),
    }
    return ServedModel(**(fields | changes))


def says(text: str) -> list[int]:
    """The token ids of an answer that ends by itself."""
    return [*text.encode(), EOS]


def fake_engine(replay: Any = None, **knobs: Any) -> FakeEngine:
    info = fake_info(
        vocab_size=VOCAB_SIZE,
        max_model_len=knobs.pop("max_model_len", CONTEXT),
        max_num_seqs=knobs.pop("max_num_seqs", 8),
    )
    return FakeEngine(
        says("Hello!") if replay is None else replay, info=info, eos_token_ids=[EOS], **knobs
    )


def by_sample(request: Request) -> list[int]:
    """An answer that differs by sample, so that mixed-up choices show."""
    index = request.request_id.rpartition("-")[2]
    return says(f"answer {index}: " + "x" * int(index))


def ready_state(engine: FakeEngine, **changes: Any) -> ServerState:
    state = ServerState()
    state.ready(engine, served_model(**changes))
    return state


@cache
def _one_app() -> tuple[App, ServerState]:
    state = ServerState()
    return create_app(state), state


def app_over(engine: FakeEngine, **model: Any) -> tuple[App, ServerState]:
    """The one app of all tests that send it a request and wait for the answer, from now on over
    this engine: to make one takes 14 ms, several times what a request takes."""
    app, state = _one_app()
    state.ready(engine, served_model(**model))
    return app, state


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of a server that is ready: it takes a fifth of a second to make, in
    each process that collects tests. Nobody changes it."""
    with app_serving(ready_state(fake_engine())) as app:
        return app.openapi()


class Routes:
    """All routes of an app, as they go from one app to the next: to make them takes 15 ms, several
    times what a request takes. Nothing of what an app has counted, cached or let in goes on."""

    def __init__(self, config: ApiConfig) -> None:
        self._context = Context.of(ServerState(), config)
        self._routers = all_routers(self._context)
        self._document: dict[str, Any] | None = None  # of these routes, whatever is served

    def app_over(self, state: ServerState, tracer: Tracer) -> App:
        """As `create_app` makes it; the one before, of these routes, is over."""
        context = self._context
        context.state.__dict__ = state.__dict__  # whoever holds either sees and changes the same
        again = Context.of(context.state, context.config)
        context.metrics.__dict__ = again.metrics.__dict__
        context.grammars.__dict__ = again.grammars.__dict__
        app = app_with(self._routers, context, tracer)
        app.openapi_schema = self._document
        return app

    def take_back(self, app: App) -> None:
        self._document = app.openapi_schema


_free: defaultdict[ApiConfig, list[Routes]] = defaultdict(list)


@contextmanager
def app_serving(
    state: ServerState, config: ApiConfig | None = None, tracer: Tracer = NO_TRACER
) -> Iterator[App]:
    """An app that nobody asks any more behind the block. Two that are open share nothing."""
    free = _free[config or ApiConfig()]
    routes = free.pop() if free else Routes(config or ApiConfig())
    app = routes.app_over(state, tracer)
    yield app
    routes.take_back(app)
    free.append(routes)  # not after a failure


@asynccontextmanager
async def client_over(
    state: ServerState,
    config: ApiConfig | None = None,
    tracer: Tracer = NO_TRACER,
    **options: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app_serving`, in this process."""
    with app_serving(state, config, tracer) as app:
        async with client_of(app, **options) as client:
            yield client


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An in-process client: whole answers only, since this transport collects bodies."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    base = {"transport": transport, "base_url": "http://localhost", "trust_env": False}
    async with httpx.AsyncClient(**(base | options)) as client:
        yield client


@contextmanager
def live(state: ServerState, config: ApiConfig | None = None, **options: Any) -> Iterator[str]:
    """The base URL of a real uvicorn on a free port, in a thread."""
    settings = {"http": GuardedProtocol, "ws": "none", "log_level": "error", "access_log": False}
    with app_serving(state, config) as app:
        server = ThreadedServer(uvicorn.Config(app, port=0, lifespan="off", **(settings | options)))
        port = server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()


def post_scope(path: str, **extensions: Any) -> Scope:
    """What a server hands an application for a POST of JSON."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "state": {},
        "extensions": extensions,
    }


class Served:
    """A server whose engine each test swaps."""

    def __init__(self, url: str, state: ServerState) -> None:
        self.url, self.state = url, state
        assert state.model is not None
        self._model = state.model

    def use(self, engine: FakeEngine, **model: Any) -> FakeEngine:
        """`model`: what the served model has otherwise than by default, until the next engine."""
        self.state.engine, self.state.model = engine, replace(self._model, **model)
        return engine

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.url + path, json=body, trust_env=False, timeout=10)

    def whole(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer, which must be one."""
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def leave_a_stream(self, path: str, body: dict[str, Any]) -> None:
        """A client that hangs up behind the first line: its work must be stopped."""
        engine = self.use(fake_engine([65] * 400, delay=0.01))
        url = self.url + path
        with httpx.stream("POST", url, json=body | {"stream": True}, trust_env=False) as answer:
            next(answer.iter_lines())
        eventually(lambda: len(engine.aborted) == 1 and self.settled(engine))

    def settled(self, engine: FakeEngine) -> bool:
        idle = engine.stats().num_requests_running == 0
        return idle and self.state.admission.in_flight == 0


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION: dict[str, Any] = {"model": "tiny", "prompt": "Hi"}
