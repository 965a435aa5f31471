"""A stand-in for a server: real sockets, scripted byte for byte.

A test queues what the next connections get (`reply`, `stream`, `raw`), and reads what came in
from `requests`. Without a script the stub is a small polite server that says "Hello there!". One
thread per connection, one request per connection. Nothing here knows the client under test.
"""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Fields = Iterable[tuple[str, str]]
Part = bytes | float | threading.Event  # bytes are sent; a float sleeps; an event is waited for


@dataclass
class Received:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    client_left: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Stub:
    """Use as a context manager; `url` is the base URL to give to a client."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._script: deque[list[Part]] = deque()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "Stub":
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            close(connection)
        for thread in self._threads:
            thread.join(timeout=5)

    def raw(self, *parts: Part) -> None:
        """The next connection gets exactly these bytes, then it is closed."""
        self._script.append(list(parts))

    def reply(self, body: Any, status: int = 200, headers: Fields = ()) -> None:
        self.raw(*reply_parts(body, status, headers))

    def stream(self, *parts: Part, chunked: bool = True, whole: bool = True) -> None:
        self.raw(*stream_parts(*parts, chunked=chunked, whole=whole))

    def _spawn(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            request = receive(connection)
            if request is None:
                return
            self.requests.append(request)
            parts = self._script.popleft() if self._script else polite(request)
            self._spawn(watch, connection, request.client_left)
            for part in parts:
                send(connection, part, request.client_left)
        except OSError:
            pass
        finally:
            close(connection)


def receive(connection: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    top, _, body = data.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Received(method, path, headers, body)


def send(connection: socket.socket, part: Part, client_left: threading.Event) -> None:
    if isinstance(part, bytes):
        connection.sendall(part)
    elif isinstance(part, float):
        client_left.wait(part)
    else:
        while not part.wait(0.01) and not client_left.is_set():
            pass


def watch(connection: socket.socket, client_left: threading.Event) -> None:
    """A client that sends nothing more and whose end of the line closes has left."""
    with suppress(OSError):
        while connection.recv(1024):
            pass
    client_left.set()


def close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def reply_parts(body: Any, status: int = 200, headers: Fields = ()) -> list[Part]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = [("content-length", str(len(data))), *headers]
    return [head(status, "application/json", fields), data]


def stream_parts(*parts: Part, chunked: bool = True, whole: bool = True) -> list[Part]:
    """An event stream; each bytes part is one chunk. Not `whole`: it is cut without an end."""
    kind = "text/event-stream; charset=utf-8"
    if not chunked:
        return [head(200, kind), *parts]
    framed = [
        b"%x\r\n%s\r\n" % (len(part), part) if isinstance(part, bytes) else part for part in parts
    ]
    end = [b"0\r\n\r\n"] if whole else []
    return [head(200, kind, [("transfer-encoding", "chunked")]), *framed, *end]


def head(status: int, kind: str, fields: Fields = ()) -> bytes:
    pairs = [("content-type", kind), ("connection", "close"), *fields]
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in pairs)]
    return "\r\n".join([*lines, "", ""]).encode()


def event(raw: Any) -> bytes:
    text = raw if isinstance(raw, str) else json.dumps(raw, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


DONE = event("[DONE]")
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
}
TIMINGS = {"ttft_ms": 12.0, "predicted_n": 3, "predicted_ms": 60.0, "total_ms": 72.0}


def chat_events(
    *texts: str, finish_reason: str = "stop", ascii_json: bool = False, spaces: bool = False
) -> list[bytes]:
    """The events of a chat stream: role, a chunk per text, finish, usage, `[DONE]`."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in texts]
    deltas += [({}, finish_reason)]
    chunks: list[dict[str, Any]] = [
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "tiny",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
            "usage": None,
        }
        for delta, reason in deltas
    ]
    chunks.append({**chunks[-1], "choices": [], "usage": USAGE, "timings": TIMINGS})
    separators = (", ", ": ") if spaces else (",", ":")
    lines = [json.dumps(x, ensure_ascii=ascii_json, separators=separators) for x in chunks]
    return [*(event(line) for line in lines), DONE]


def completion_events(*texts: str, ascii_json: bool = False) -> list[bytes]:
    chunks = [
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "text": text,
                    "logprobs": None,
                    "finish_reason": "length" if i == len(texts) - 1 else None,
                }
            ],
        }
        for i, text in enumerate(texts)
    ]
    return [*(event(json.dumps(x, ensure_ascii=ascii_json)) for x in chunks), DONE]


def chat_json(text: str = "Hello there!") -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [choice],
        "usage": USAGE,
        "timings": TIMINGS,
        "house_special": 7,
    }


def completion_json(text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "tiny",
        "choices": [choice],
        "usage": USAGE,
    }


MODELS = {
    "object": "list",
    "data": [
        {"id": "tiny", "object": "model", "created": 1, "owned_by": "x", "max_model_len": 2048},
        {"id": "big", "object": "model", "created": 1, "owned_by": "x"},
    ],
}


INSPECTION = {
    "object": "inspection",
    "tokens": [{"id": 5, "token": "Hel"}, {"id": 7, "token": "lo"}],
    "layers": [{"layer": 0, "pattern": [[[1.0, 0.0], [0.25, 0.75]]]}],
    "dims": {"pattern": ["layer", "head", "query_pos", "key_pos"]},
    "layer_numbers": [0],
    "heads": [0],
    "positions": [0, 1],
    "next_token": [[{"id": 9, "token": "!", "logprob": -0.5}]],
}


def error(message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def polite(request: Received) -> list[Part]:
    """What an unscripted connection gets."""
    is_stream = bool(request.raw and request.json.get("stream"))
    match request.path:
        case "/v1/chat/completions" if is_stream:
            return stream_parts(*chat_events("Hello", " there", "!"))
        case "/v1/completions" if is_stream:
            return stream_parts(*completion_events(" on", "ce"))
        case "/v1/chat/completions":
            return reply_parts(chat_json())
        case "/v1/completions":
            return reply_parts(completion_json(" once"))
        case "/v1/models":
            return reply_parts(MODELS)
        case "/tokenize":
            return reply_parts({"count": 2, "max_model_len": 2048, "tokens": [5, 7]})
        case "/detokenize":
            return reply_parts({"prompt": "hi"})
        case "/v1/inspect":
            return reply_parts(INSPECTION)
        case "/health":
            return reply_parts({"status": "ok"})
    return reply_parts(error(f"No route {request.path}.", "unknown_url"), 404)
