"""How an error is written: in OpenAI's envelope, or on their own routes in Anthropic's or Ollama's.

    {"error": {"message", "type", "param", "code"}}
    {"type": "error", "error": {"type", "message"}, "request_id"}
    {"error": message}

The path decides, since an error may come before any route is found (a wrong key, a wrong method).
Only how an error looks hangs on it, never whether a caller may pass. Anthropic has a type for each
status and no field for the parameter, Ollama has the message alone: it names the field.
The numbers of a prompt that does not fit stand beside the message in the first two.
"""

import logging

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.errors import (
    ApiError,
    Error,
    internal_error,
    is_out_of_memory,
    out_of_memory,
)
from thirdeye.server.logs import clean, log_bug

MESSAGES_PATH = "/v1/messages"
OLLAMA_PATHS = "/api/"

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


logger = logging.getLogger("thirdeye.api")


class AnthropicErrorFields(Struct):
    type: str
    message: str
    n_prompt_tokens: int | UnsetType = UNSET  # as in `ErrorFields`
    n_ctx: int | UnsetType = UNSET


class AnthropicError(Struct, tag_field="type", tag="error"):
    error: AnthropicErrorFields
    request_id: str


class OllamaError(Struct):
    error: str


def is_anthropic(path: str) -> bool:
    """Whether whoever asks for this path speaks Anthropic's dialect."""
    return path == MESSAGES_PATH or path.startswith(MESSAGES_PATH + "/")


def failure_of(error: Exception, request_id: str) -> ApiError:
    """What nobody has foreseen: no memory in this process is no bug. The log has a bug's stack, and
    a line where there was no memory, since a stack would want some."""
    if is_out_of_memory(error):
        logger.error("no memory in this process for %s", clean(request_id))
        return out_of_memory()
    log_bug(logger, request_id, error)
    return internal_error(request_id)


def error_body(error: ApiError, path: str, request_id: str) -> Error | AnthropicError | OllamaError:
    if is_anthropic(path):
        return anthropic_error(error, request_id)
    return ollama_error(error) if path.startswith(OLLAMA_PATHS) else error.body()


def ollama_error(error: ApiError) -> OllamaError:
    return OllamaError(error.message)


def anthropic_error(error: ApiError, request_id: str) -> AnthropicError:
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _ANTHROPIC_TYPES.get(error.status, other)
    return AnthropicError(AnthropicErrorFields(kind, error.message, **error.details), request_id)
