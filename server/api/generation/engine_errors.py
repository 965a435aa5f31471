"""The engine's own words for what it refused or gave up, as answers with a status.

request_too_large  400   never again, unless it gets smaller
invalid_schema     400   a grammar that compiles, and then is too complex to be followed
model_not_found    404   its adapter was unloaded before the request began
queue_timeout      503   nothing was computed: come back in Retry-After seconds
out_of_memory      503   the step's requests failed, the engine goes on: come back at once
request_timeout    503   it would take as long again: clients are told not to retry
"""

from collections.abc import Callable

from thirdeye.server.engine.interface.types import ErrorCode
from thirdeye.server.errors import (
    ApiError,
    InvalidRequest,
    ResourceNotFound,
    ServiceUnavailable,
    come_back_in,
)


def coded_failure(code: ErrorCode, message: str, retry_after: Callable[[], int]) -> ApiError:
    match code:
        case ErrorCode.REQUEST_TOO_LARGE:
            return InvalidRequest(message, param="max_tokens", code=code)
        case ErrorCode.INVALID_GRAMMAR:
            return InvalidRequest(message, code=code)
        case ErrorCode.ADAPTER_GONE:
            return ResourceNotFound(message, param="model", code=code)
        case ErrorCode.QUEUE_TIMEOUT:
            headers = come_back_in(retry_after())
        case ErrorCode.OUT_OF_MEMORY:
            headers = come_back_in(1)
        case ErrorCode.REQUEST_TIMEOUT:
            headers = {"x-should-retry": "false"}
    return ServiceUnavailable(message, code=code, headers=headers)
