"""The HTTP side's settings, already resolved: nothing below reads a flag or the environment."""

from dataclasses import dataclass

from thirdeye.server.api.http.auth import LOOPBACK_HOSTS
from thirdeye.server.api.http.json_body import MAX_BODY_BYTES
from thirdeye.server.settings.bounds import MAX_N


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`allowed_hosts` is checked when there is no key; None lets every Host pass."""

    api_keys: tuple[str, ...] = ()  # each a line of a key file
    caller_header: str | None = None  # in which a gateway's key names its callers
    open_metrics: bool = False  # /metrics without a key
    allowed_hosts: tuple[str, ...] | None = LOOPBACK_HOSTS
    sse_ping: float = 15.0  # seconds of silence before a keep-alive comment; 0 is off
    send_timeout: float = 30.0  # seconds a reader may stall
    max_body_bytes: int = MAX_BODY_BYTES
    max_n: int = MAX_N  # samples of one prompt
    max_stop: int = 16  # stop strings of one request
    max_choices: int = 1024  # prompts of one request, times their samples
    require_model: bool = False  # a request must name the model, though there is one
    inspect: str = "intervene"  # or "read", or "off": how far one may look inside
    strict_max_tokens: bool = False  # a limit above the room is refused instead of lowered
    lenient: bool = False  # unknown fields are named in a header instead of refused
    requests_per_minute: int = 0  # of each key; 0 is no limit
    tokens_per_minute: int = 0
    concurrent_requests: int = 0  # answers of each key under way
    max_queue_time: float = 10.0  # seconds that who is let in may wait for a place; 0 is any time
    cors_origins: tuple[str, ...] = ()  # pages of these may call, "*" is all
    vllm_metrics: bool = False  # /metrics under vLLM's names, too
    is_named_outside: bool = False  # what runs the app puts `x-request-id` on answers itself
    access_log: bool = False  # a log line for each request
    version: str = "0.1.0"
