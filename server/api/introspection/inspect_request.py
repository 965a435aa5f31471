"""What `POST /v1/inspect` may be asked, and how much of it.

Patterns grow with the square of the text, so besides tokens the bytes are bounded: of an answer in
one piece, which is held in memory whole, more tightly than of a stream. Each refusal says what to
leave out.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.openai.schema import MAX_MESSAGES, Message
from thirdeye.server.api.requests.fields import Prompt, one_prompt_schema, parse_one_prompt
from thirdeye.server.api.requests.generation_fields import MAX_LOGPROBS
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.state.server_state import ModelInfo
from thirdeye.server.engine.interface.trace import ARRAYS

MAX_TOKENS = 512
MAX_LENS_TOKENS = 128  # the lens runs the head at each of them, in every layer
MAX_WHOLE_BYTES = 8 * 2**20  # as float32; as JSON numbers it is about twice that
MAX_STREAM_BYTES = 32 * 2**20
MAX_LAYERS = 1024

Part = Literal[
    "pattern", "norms", "logit_lens",
    "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post",
]  # fmt: skip


OneText = Annotated[
    Prompt, PlainValidator(parse_one_prompt), WithJsonSchema(one_prompt_schema(MAX_TOKENS))
]
# How many there are is the model's matter: see `layers_of`, and `openapi/served_model.py`.
LayerNumber = Annotated[int, Field(json_schema_extra={"minimum": 0, "format": "layer-number"})]


class InspectRequest(Strict):
    """`prompt` or `messages`, as in `/tokenize`; `model` may be left out."""

    model: str | None = None
    prompt: OneText | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None  # true for a prompt, false for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    include: list[Part] = Field(["pattern", "norms", "logit_lens"], max_length=len(ARRAYS) + 1)
    layers: list[LayerNumber] | None = Field(None, min_length=1, max_length=MAX_LAYERS)
    lens_positions: Literal["last", "all"] = "last"
    top_logprobs: int = Field(5, ge=1, le=MAX_LOGPROBS)
    encoding_format: Literal["float", "base64"] = "float"
    stream: bool = False


def layers_of(body: InspectRequest, info: ModelInfo) -> list[int]:
    """The layers to tell of, in order, each once. Raises `InvalidRequest`."""
    if body.layers is None:
        return list(range(info.num_layers))
    for i, layer in enumerate(body.layers):
        if not 0 <= layer < info.num_layers:
            rule = f"must be a layer between 0 and {info.num_layers - 1}, got {layer}."
            raise refuse(f"layers[{i}]", rule)
    return sorted(set(body.layers))


def check_size(
    body: InspectRequest, num_tokens: int, layers: Sequence[int], info: ModelInfo, param: str
) -> None:
    """Raises `InvalidRequest` for a text, or an answer, that would be too large."""
    if num_tokens > MAX_TOKENS:
        rule = f"must be at most {MAX_TOKENS} tokens long to be looked into, got {num_tokens}."
        raise refuse(param, rule, "context_length_exceeded")
    is_all = "logit_lens" in body.include and body.lens_positions == "all"
    if is_all and num_tokens > MAX_LENS_TOKENS:
        rule = f"'all' is for at most {MAX_LENS_TOKENS} tokens, got {num_tokens}: use 'last'."
        raise refuse("lens_positions", rule)
    num_bytes = len(layers) * sum(
        bytes_of(name, num_tokens, info) for name in ARRAYS if name in body.include
    )
    limit = MAX_STREAM_BYTES if body.stream else MAX_WHOLE_BYTES
    if num_bytes > limit:
        way_out = "" if body.stream else "set 'stream': true, "
        raise refuse(
            "include",
            f"asks for {num_bytes:,} bytes of numbers at {num_tokens} tokens and {len(layers)} "
            f"layers, at most {limit:,} are given: {way_out}name fewer 'layers', or less here.",
            "request_too_large",
        )


def bytes_of(name: str, num_tokens: int, info: ModelInfo) -> int:
    """Of one layer's array, as float32."""
    if name == "pattern":
        return 4 * info.num_heads * num_tokens**2
    return 4 * num_tokens * (5 if name == "norms" else info.hidden_size)
