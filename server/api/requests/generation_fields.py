"""The fields that requests for an answer share, whatever their dialect: a table of their types,
ranges and defaults.

What needs more than one field, or the model, is checked in `generation/request_rules.py`.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from thirdeye.server.api.requests.fields import LogitBias, OnlyFalse, Stop
from thirdeye.server.api.requests.response_formats import ResponseFormat, StructuredOutputs
from thirdeye.server.api.requests.strict_model import MAX_INT, Strict, TokenId
from thirdeye.server.api.requests.value_readers import fail
from thirdeye.server.settings.bounds import MAX_N

MAX_LOGPROBS = 20
MAX_METADATA = 16


class StreamOptions(Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: OnlyFalse = False


def _few(value: object) -> object:
    """Counted before a look is taken at each."""
    if isinstance(value, dict) and len(value) > MAX_METADATA:
        rule = f"must hold at most {MAX_METADATA} items, got {len(value)}."
        fail("object_above_max_properties", rule)
    return value


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

NumKept = Annotated[  # of a prompt's tokens; -1: as many as fit
    int, Field(ge=-1, le=MAX_INT, json_schema_extra={"not": {"const": 0}})
]


class AskedRequest(Strict):
    """What every request for an answer has in OpenAI's dialects: how the next token is chosen, and
    when it ends."""

    model: str
    stop: Stop = ()
    ignore_eos: bool = False
    stream: bool = False
    user: str | None = None
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1, le=MAX_INT)
    min_p: float = Field(0.0, ge=0, le=1)
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, gt=0)


class Hints(Strict):
    """Accepted, checked, and without effect but in the log."""

    metadata: Annotated[dict[MetadataKey, MetadataValue], BeforeValidator(_few)] = Field(
        default_factory=dict, max_length=MAX_METADATA
    )
    safety_identifier: str | None = Field(None, max_length=64)
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: dict[str, object] | None = None
    service_tier: Literal["auto", "default"] | None = None


class GenerationRequest(AskedRequest):
    """What chat and completions share."""

    n: int = Field(1, ge=1, le=MAX_N)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias = Field(default_factory=dict)

    # what the answer has to look like
    response_format: ResponseFormat = None
    structured_outputs: StructuredOutputs | None = None

    # when it ends, and what is shown
    stop_token_ids: list[TokenId] = Field(default_factory=list, max_length=64)
    min_tokens: int = Field(0, ge=0, le=MAX_INT)
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    receipt: bool = False
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    t_max_predict_ms: int = Field(0, ge=0, le=MAX_INT)
    return_progress: bool = False

    # how it is queued and cached
    truncate_prompt_tokens: NumKept | None = None
    priority: int = Field(0, ge=-(2**31), le=MAX_INT)
    cache_salt: str | None = Field(None, min_length=1, max_length=1024)
