"""What reads bytes from outside, each as a function of bytes that raises only what is a bug.

A refusal in our own words is an end like any other. Whatever else comes out is a finding: it gets
its file in `corpora/`, and every push tries it again.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

import jinja2
from uvicorn.config import Config
from uvicorn.server import ServerState

from thirdeye.clients.errors import ThirdeyeError
from thirdeye.clients.loadtest.driver.reading import Reading
from thirdeye.clients.loadtest.driver.wire import WireError
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.types import ChatAnswer
from thirdeye.server.api.http.json_body import decode_object
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.errors import ApiError
from thirdeye.server.text.constraints.constraint import json_schema, lark, regex
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.constraints.trials.trial import trying_with
from thirdeye.server.text.constraints.trials.trial_processes import Budget, shared_processes
from thirdeye.server.text.templates.sandbox import TemplateRefusal, TemplateSandbox
from thirdeye.server.transport.connection_guard import GuardedProtocol
from thirdeye.weights.errors import ModelError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import read_gguf
from thirdeye.weights.formats.safetensors import list_tensors
from thirdeye.weights.tokenizers.hugging_face.tokenizer_json import read_vocabulary

Target = Callable[[bytes], None]
TEMPLATES_OWN_FAULTS = (
    *(TemplateRefusal, jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError),
    *(AttributeError, RecursionError),
)


@cache
def _file() -> Path:
    """One file for all inputs, in memory where the system has such a place."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fuzz", dir=folder), "input")


def _check_told(error: Exception) -> None:
    """One line, and no long one."""
    assert "\n" not in str(error), error
    assert len(str(error)) < 2000, error


def gguf(data: bytes) -> None:
    _file().write_bytes(data)
    try:
        read_gguf(_file())
    except ModelError as error:
        _check_told(error)


def safetensors(data: bytes) -> None:
    _file().write_bytes(data)
    try:
        list_tensors([_file()])
    except ModelError as error:
        _check_told(error)


def tokenizer(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return  # read by one function for all files: tests/weights/hostile
    if not isinstance(value, dict):
        return
    try:
        read_vocabulary(Fields(Path("tokenizer.json"), value), None, 512, 0, frozenset({2}))
    except ModelError as error:
        _check_told(error)


def body(data: bytes) -> None:
    """What is accepted is what Python's parser says; what is refused has one short sentence."""
    try:
        value = decode_object(data)
    except ApiError as error:
        _check_told(error)
        return
    assert value == json.loads(data)
    for model in (ChatRequest, CompletionRequest):
        try:
            parse(model, value)
        except ApiError as error:
            _check_told(error)


def head(data: bytes) -> None:
    """A connection's bytes, in two pieces: whatever they are, nothing is raised, and what is
    answered is HTTP."""
    loop = _loop()
    transport = _Transport(loop)
    protocol = GuardedProtocol(_config(), ServerState(), {}, loop)
    protocol.connection_made(cast(asyncio.Transport, transport))
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        protocol.data_received(piece)
        for _ in range(4):
            loop.run_until_complete(asyncio.sleep(0))
    protocol.connection_lost(None)
    loop.run_until_complete(asyncio.sleep(0))
    written = bytes(transport.written)
    assert not written or written.startswith(b"HTTP/1.1 "), written


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _config() -> Config:
    config = Config(_answer, http=GuardedProtocol, ws="none", log_config=None, access_log=False)
    config.load()
    return config


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads its body and says yes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


class _Transport:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.written, self._is_closing = bytearray(), False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, **_: Any) -> None: ...


def sse(data: bytes) -> None:
    """The client's reader: in one piece or byte by byte, it says the same."""
    whole, cut = _stream_of([data]), _stream_of([data[i : i + 1] for i in range(len(data))])
    assert whole == cut


def _stream_of(pieces: list[bytes]) -> tuple[list[str], str]:
    reader, said = StreamReader(ChatAnswer), list[str]()
    try:
        for piece in pieces:
            for chunk in reader.feed(piece):
                said.append(chunk.text)
        reader.finish()
    except ThirdeyeError as error:
        return said, type(error).__name__
    return said, reader.answer().text


def load_test(data: bytes) -> None:
    """The load tester's reader, of a status and of what it is told."""
    reading = Reading()
    reading.head(200 if data[:1] != b"!" else 500, {})
    with suppress(WireError):
        reading.body(data[: len(data) // 2], 1.0)
        reading.body(data[len(data) // 2 :], 2.0)
    reading.finish()


def _tried_elsewhere() -> AbstractContextManager[None]:
    """As the server does: what never ends is ended."""
    return trying_with(Budget(shared_processes(), 0.5))


def schema(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        with _tried_elsewhere():
            json_schema(value)
    except ConstraintError as error:
        _check_told(error)


def expression(data: bytes) -> None:
    try:
        with _tried_elsewhere():
            regex(data.decode(errors="ignore"))
    except ConstraintError as error:
        _check_told(error)


def grammar(data: bytes) -> None:
    try:
        with _tried_elsewhere():
            lark(data.decode(errors="ignore"))
    except ConstraintError as error:
        _check_told(error)


def template(data: bytes) -> None:
    sandbox = TemplateSandbox()
    messages = [{"role": "user", "content": "Hi"}]
    try:
        compiled = sandbox.compile_template(data.decode(errors="ignore"))
        sandbox.run(compiled, {"messages": messages, "add_generation_prompt": True})
    except TEMPLATES_OWN_FAULTS:
        pass  # a template's own faults; `ChatTemplate` tells the operator at the start
    assert messages == [{"role": "user", "content": "Hi"}]


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(gguf, safetensors, tokenizer, body, head, sse, load_test),
        *(schema, expression, grammar, template),
    )
}
