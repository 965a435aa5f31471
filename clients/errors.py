"""What can go wrong in a call, as exceptions: the class says what to do, the fields say why.

    ThirdeyeError                    anything below
    ├── ConnectionFailed             no server there, or it hung up before it answered
    ├── Timeout                      the server was there, its answer was not
    ├── StreamBroken                 a stream that ended without `[DONE]`, or that cannot be read
    │   └── NotResumed               ... and no other server can go on with it
    └── APIError                     the server answered: no
        ├── BadRequest               400, 413 and the other 4xx: change the request
        │   └── ContextLengthExceeded    the prompt is longer than the model's context
        ├── Authentication           401, 403: send another key
        ├── NotFound                 404: another model or another URL
        ├── RateLimited              429: wait `retry_after` seconds
        └── ServerError              5xx, and errors in mid-stream
            └── Overloaded           503: loading, draining or full; wait `retry_after` seconds

Every server words its errors in its own way, so `error_from` reads the body with patience. This
file knows no HTTP library.
"""

from collections.abc import Mapping
from typing import Any


class ThirdeyeError(Exception):
    """The root: `except ThirdeyeError` catches everything that a call raises on purpose."""


class ConnectionFailed(ThirdeyeError):
    """No answer: nobody listens at the URL, or the connection broke before the first byte."""


class Timeout(ThirdeyeError):
    """The server took longer than the client's `timeout`."""


class StreamBroken(ThirdeyeError):
    """A stream ended without `[DONE]`, so its text may be cut, or it holds what is no event."""


class NotResumed(StreamBroken):
    """A stream broke, and cannot go on elsewhere: inside a tool call, or as the other server's
    model, or its arithmetic, is another."""


class APIError(ThirdeyeError):
    """The server refused or failed. `status` is None for an error event in mid-stream.

    `type`, `param` and `code` are the fields of OpenAI's error object, None where the server sends
    none. `retry_after` is in seconds; `should_retry` is the server's own word on a retry.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.should_retry = should_retry

    def __str__(self) -> str:
        where = "in mid-stream" if self.status is None else str(self.status)
        return f"{self.message} ({where})"


class BadRequest(APIError):
    """The request is wrong as it stands; `param` names the field."""


class ContextLengthExceeded(BadRequest):
    """The prompt, or the prompt and `max_tokens`, do not fit into the model's context."""


class Authentication(APIError):
    """The key is missing, unknown or not allowed to do this."""


class NotFound(APIError):
    """No such model, or no such route."""


class RateLimited(APIError):
    """Too many requests, or a full queue; come back after `retry_after` seconds, if given."""


class ServerError(APIError):
    """The server failed; the request may be fine."""


class Overloaded(ServerError):
    """The server takes no request now: it loads, it drains, or its queue is too slow."""


def error_from(
    status: int | None,
    body: Any,
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
    should_retry: bool | None = None,
) -> APIError:
    """The exception for a refusal: `body` is the parsed JSON, or the bare text of the answer.

    >>> error_from(404, {"error": {"message": "No such model.", "code": "model_not_found"}})
    NotFound('No such model.')
    """
    fields = _fields(body)
    code = fields.get("code")
    if status is None and isinstance(code, int):
        status = code  # some servers put the status into the event
    message = _text(fields.get("message")) or _text(body) or "the server gave no reason"
    name = None if code is None else str(code)
    kind = _text(fields.get("type"))
    return _class_for(status, kind, name, message)(
        message,
        status=status,
        type=kind,
        param=_text(fields.get("param")),
        code=name,
        request_id=request_id,
        retry_after=retry_after,
        should_retry=should_retry,
    )


def _fields(body: Any) -> Mapping[str, Any]:
    """OpenAI's envelope, a flat object, `{"error": "text"}` or FastAPI's `detail`."""
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    if isinstance(inner, dict):
        return {"message": inner.get("detail"), **inner}
    return {"message": inner}


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _class_for(
    status: int | None, kind: str | None, code: str | None, message: str
) -> type[APIError]:
    if code == "context_length_exceeded" or "maximum context length" in message:
        return ContextLengthExceeded
    if status is None:
        return BadRequest if kind == "invalid_request_error" else ServerError
    if status >= 500:
        return Overloaded if status == 503 else ServerError
    by_status = {401: Authentication, 403: Authentication, 404: NotFound, 429: RateLimited}
    return by_status.get(status, BadRequest if status >= 400 else APIError)
