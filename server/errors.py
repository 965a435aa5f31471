"""What can go wrong for a caller, as one tree; each leaf knows its HTTP status and OpenAI error
type.

    ApiError
    ├── InvalidRequest 400
    │   ├── Unauthorized 401
    │   ├── Forbidden 403
    │   ├── ResourceNotFound 404
    │   ├── MethodNotAllowed 405
    │   └── TooLarge 413
    ├── ServerOverloaded 429
    ├── RequestsLimited 429
    ├── TokensLimited 429
    ├── InternalError 500
    └── ServiceUnavailable 503
    ClientGone (nobody is left to tell)

The message is for the client's eyes: one sentence that names the parameter in single quotes, the
rule and what came; never a prompt, a key or another exception's text. The HTTP layer turns each
into OpenAI's envelope `{"error": {"message", "type", "param", "code"}}`.
"""

import errno
import math
from collections.abc import Mapping
from typing import ClassVar, Self

from msgspec import UNSET, Struct, UnsetType

MAX_RETRY_AFTER = 60  # seconds; clients give up above 120
NO_THREAD = "can't start new thread"  # Python's words, in a RuntimeError
MAX_MESSAGE = 300  # characters: an error must not amplify what caused it


class ErrorFields(Struct):
    message: str
    type: str
    param: str | None
    code: str | None
    n_prompt_tokens: int | UnsetType = UNSET  # of a prompt that does not fit: llama.cpp's names
    n_ctx: int | UnsetType = UNSET


class Error(Struct):
    """OpenAI's envelope; `param` and `code` are present even when null."""

    error: ErrorFields


class ApiError(Exception):
    """An answer other than 2xx. `param` is a field path such as `messages[2].role`."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, int] | None = None,
    ) -> None:
        """`details` are the optional fields of `ErrorFields`."""
        super().__init__(message)
        self.message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        self.details = dict(details or {})

    def renamed(self, message: str, param: str | None) -> Self:
        """The same error about a field of another name."""
        return type(self)(
            message, param=param, code=self.code, headers=self.headers, details=self.details
        )

    def body(self) -> Error:
        return Error(ErrorFields(self.message, self.type, self.param, self.code, **self.details))


class InvalidRequest(ApiError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(InvalidRequest):
    status = 401


class Forbidden(InvalidRequest):
    status = 403


class ResourceNotFound(InvalidRequest):
    status = 404


class MethodNotAllowed(InvalidRequest):
    status = 405


class TooLarge(InvalidRequest):
    status = 413


class ServerOverloaded(ApiError):
    status = 429
    type = "server_overloaded"


class RequestsLimited(ApiError):
    """The key has had its requests of this minute, or has as many under way as it may."""

    status = 429
    type = "requests"


class TokensLimited(ApiError):
    """The key has had its tokens of this minute."""

    status = 429
    type = "tokens"


class InternalError(ApiError):
    status = 500


class ServiceUnavailable(ApiError):
    status = 503


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


def whose(caller: str) -> str:
    """A caller in a sentence for him: a gateway passes it on to somebody who has no key."""
    _, _, named = caller.partition(":")
    return f"the caller '{named}' of this key" if named else "this key"


def come_back_in(seconds: int) -> dict[str, str]:
    """Headers that say when to try again, 1 to 60 s: in seconds, and as openai-python prefers."""
    seconds = min(max(seconds, 1), MAX_RETRY_AFTER)
    return {"Retry-After": str(seconds), "retry-after-ms": str(seconds * 1000)}


def internal_error(request_id: str) -> InternalError:
    """A bug of ours: the client gets the id under which the log holds the stack."""
    return InternalError(
        f"The server failed on this request; its log has the details under {request_id}.",
        code="internal_error",
    )


def out_of_memory() -> ServiceUnavailable:
    """This process had none, at its limit or the machine's: others end, and there is some again."""
    return ServiceUnavailable(
        "The server's process has no memory left for this request. Try again in 5 s, with a "
        "smaller one if it happens again.",
        code="out_of_memory",
        headers=come_back_in(5),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Also where a system call says it, a thread cannot be started for it, or one task of some."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_out_of_memory(member) for member in error.exceptions)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or str(error) == NO_THREAD


def engine_down(restart_eta: float | None, message: str | None = None) -> ServiceUnavailable:
    """The engine is dead. If another is being loaded, come back when it should be here.

    `restart_eta` is `Engine.restart_eta`, in seconds; `message` says more than that it restarts.
    """
    if restart_eta is None:
        return engine_failed()
    seconds = min(math.ceil(restart_eta) + 1, MAX_RETRY_AFTER)
    return ServiceUnavailable(
        message or f"The engine is restarting. Try again in {seconds} s.",
        code="model_loading",
        headers=come_back_in(seconds),
    )


def engine_failed() -> ServiceUnavailable:
    """The engine is dead for good: clients are told not to try again."""
    return ServiceUnavailable(
        "The engine has failed and this server cannot answer any more.",
        code="engine_failed",
        headers={"x-should-retry": "false"},
    )


def draining(message: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        message, code="server_draining", headers=come_back_in(5) | {"Connection": "close"}
    )
