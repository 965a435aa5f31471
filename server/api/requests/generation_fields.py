"""The fields that requests for an answer share, whatever their dialect: a table of their types,
ranges and defaults.

What needs more than one field, or the model, is checked in `generation/request_rules.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from thirdeye.server.api.field_rules.hints import AnyHint, Hint, Switch
from thirdeye.server.api.requests.answer_forms import (
    AllowedIds,
    BadWords,
    ChoiceForm,
    GrammarForm,
    JsonForm,
    JsonObjectForm,
    RegexForm,
    StructuredOutputs,
)
from thirdeye.server.api.requests.fields import LogitBias, Stop
from thirdeye.server.api.requests.response_formats import ResponseFormat
from thirdeye.server.api.requests.strict_model import (
    MAX_INT,
    LimitOrAny,
    LimitOrOff,
    Strict,
    TokenId,
    lowered,
)
from thirdeye.server.api.requests.value_readers import fail
from thirdeye.server.settings.bounds import MAX_N

MAX_LOGPROBS = 20
MAX_METADATA = 16


class StreamOptions(Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Annotated[bool, Hint((False,))] = False  # nothing is padded


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
    int,
    Field(ge=-1),
    BeforeValidator(lowered),
    WithJsonSchema({"type": "integer", "minimum": -1, "not": {"const": 0}}),
]


def _unlimited(value: object) -> object:
    """-1 is how llama.cpp and others write "no limit"."""
    return None if type(value) is int and value == -1 else lowered(value)


def _room_schema(fewest: int) -> WithJsonSchema:
    number: dict[str, Any] = {"type": "integer", "minimum": fewest}
    return WithJsonSchema({"anyOf": [number, {"const": -1}]})


MaxTokens = Annotated[  # None: as many as there is room for
    int | None, Field(ge=1), BeforeValidator(_unlimited), _room_schema(1)
]
MaxTokensOrNone = Annotated[  # 0 too
    int | None, Field(ge=0), BeforeValidator(_unlimited), _room_schema(0)
]


class AskedRequest(Strict):
    """What every request for an answer has in OpenAI's dialects: how the next token is chosen, and
    when it ends."""

    names_model = True

    model: str | None = None
    stop: Stop = ()
    ignore_eos: bool = False
    stream: bool = False
    user: str | None = None
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: LimitOrAny = 0
    min_p: float = Field(0.0, ge=0, le=1)
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    repeat_last_n: LimitOrAny = -1


class CommonHints(Strict):
    """What programs send to any API, whichever has it. None of it changes an answer: prefixes are
    cached without being asked, nothing is kept, cut or compacted."""

    cache_control: AnyHint = None
    client_metadata: AnyHint = None
    context_management: AnyHint = None
    prompt_cache_key: Annotated[str | None, Hint()] = None
    prompt_cache_options: Annotated[dict[str, object] | None, Hint()] = None
    prompt_cache_retention: Annotated[Literal["in_memory", "24h"] | None, Hint()] = None
    service_tier: Annotated[
        Literal[
            "auto", "default", "standard_only", "flex", "priority", "scale", "fast", "ultrafast"
        ]
        | None,
        Hint(("auto", "default", "standard_only")),
    ] = None
    store: Annotated[bool | None, Hint((False,))] = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Hint(("disabled",))] = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, Hint(("medium",))] = None


class LoggedFields(CommonHints):
    """Accepted, checked, and found again in the log."""

    metadata: Annotated[dict[MetadataKey, MetadataValue], BeforeValidator(_few)] = Field(
        default_factory=dict, max_length=MAX_METADATA
    )
    safety_identifier: str | None = Field(None, max_length=64)


class ForeignHints(Strict):
    """How other servers, routers and client programs may be asked to work. None of it changes an
    answer."""

    backend_sampling: Switch = None
    cache_prompt: Annotated[Any, Hint((True,))] = None
    custom_llm_provider: AnyHint = None
    data_parallel_rank: AnyHint = None
    draft_model: AnyHint = None
    extra_key: AnyHint = None
    drop_params: Switch = None
    guided_decoding_backend: AnyHint = None
    id_slot: Annotated[Any, Hint((-1,))] = None
    n_cache_reuse: Annotated[Any, Hint((0,))] = None
    intent: AnyHint = None
    keep_alive: AnyHint = None
    media_io_kwargs: AnyHint = None
    mm_processor_kwargs: AnyHint = None
    models: AnyHint = None
    prediction: AnyHint = None
    provider: AnyHint = None
    request_id: AnyHint = None
    rid: AnyHint = None
    route: AnyHint = None
    session_id: AnyHint = None
    slot_id: Annotated[Any, Hint((-1,))] = None
    timings_per_token: Switch = None
    tool_stream: Switch = None
    trace: Switch = None
    ttl: AnyHint = None
    usage: Annotated[Any, Hint((False, {"include": False}))] = None
    user_id: AnyHint = None
    vl_high_resolution_images: Switch = None


class GenerationRequest(ForeignHints, LoggedFields, AskedRequest):
    """What chat and completions share."""

    n: int = Field(1, ge=1, le=MAX_N)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias = Field(default_factory=dict)
    penalize_newline: bool = True

    # what the answer has to look like: one of these
    response_format: ResponseFormat = None
    structured_outputs: StructuredOutputs = None
    grammar: GrammarForm = None
    json_schema: JsonForm = None
    regex: RegexForm = None
    ebnf: GrammarForm = None
    guided_json: JsonForm = None
    guided_json_object: JsonObjectForm = None
    guided_regex: RegexForm = None
    guided_choice: ChoiceForm = None
    guided_grammar: GrammarForm = None
    bad_words: BadWords = None
    allowed_token_ids: AllowedIds = None

    # when it ends, and what is shown
    stop_token_ids: list[TokenId] = Field(default_factory=list, max_length=64)
    min_tokens: int = Field(0, ge=0, le=MAX_INT)
    answer_token_ids: list[TokenId] = Field(default_factory=list)
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    receipt: bool = False
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    t_max_predict_ms: LimitOrOff = 0
    return_progress: bool = False

    # how it is queued and cached
    truncate_prompt_tokens: NumKept | None = None
    priority: int = Field(0, ge=-(2**31), le=MAX_INT)
    cache_salt: str | None = Field(None, min_length=1, max_length=1024)
