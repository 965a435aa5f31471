"""What `POST /v1/inspect` and `POST /v1/inspect/vocabulary` may be asked; `inspect_limits.py` says
how much of it."""

from typing import Literal

from pydantic import Field

from thirdeye.server.api.introspection.interventions.intervention_fields import (
    MAX_INTERVENTIONS,
    MAX_REFERENCES,
    Intervention,
    Sweep,
)
from thirdeye.server.api.introspection.interventions.number_fields import (
    MAX_TOKENS,
    HeadNumber,
    LayerNumber,
    OneText,
    Position,
)
from thirdeye.server.api.introspection.token_choice import TokenChoice
from thirdeye.server.api.openai.schema import MAX_MESSAGES, Message
from thirdeye.server.api.requests.generation_fields import MAX_LOGPROBS
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.engine.interface.trace import ARRAYS, ENDINGS

MAX_LAYERS = 1024
MAX_HEADS = 1024
MAX_NEURONS = 50
MAX_FOLLOWED = 8
MAX_WORDS = 8  # whose neighbours are looked for: a piece of work each time the table is read
MAX_NEAREST = 50
MAX_NOISE = 32
MAX_CONTINUED = 32

Part = Literal[
    "pattern", "norms", "logit_lens",
    "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post",
    "q", "k", "v", "q_normed", "k_normed", "v_normed", "rot_q", "rot_k",
    "scores", "z", "result", "value_norms",
    "norm_stats", "neurons", "routing", "lens_tokens", "surprisal", "attribution", "head_scores",
]  # fmt: skip


class InspectRequest(Strict):
    """`prompt` or `messages`, as in `/tokenize`; `model` may be left out."""

    model: str | None = None
    prompt: OneText | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None  # true for a prompt, false for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    include: list[Part] = Field(
        ["pattern", "norms", "logit_lens"], max_length=len(ARRAYS) + len(ENDINGS) + 2
    )
    layers: list[LayerNumber] | None = Field(None, min_length=1, max_length=MAX_LAYERS)
    heads: list[HeadNumber] | None = Field(None, min_length=1, max_length=MAX_HEADS)
    positions: list[Position] | None = Field(None, min_length=1, max_length=MAX_TOKENS)
    masked_scores: bool = False
    top_neurons: int = Field(10, ge=1, le=MAX_NEURONS)
    lens_positions: Literal["last", "all"] = "last"
    lens_tokens: list[TokenChoice] = Field([], max_length=MAX_FOLLOWED)
    top_logprobs: int = Field(5, ge=1, le=MAX_LOGPROBS)
    compare: list[TokenChoice] = Field([], max_length=2)
    interventions: list[Intervention] = Field([], max_length=MAX_INTERVENTIONS)
    sweep: Sweep | None = None
    source: OneText | None = None
    mean_of: list[OneText] = Field([], max_length=MAX_REFERENCES)
    noise: int = Field(8, ge=2, le=MAX_NOISE)
    continued: int | None = Field(None, alias="continue", ge=1, le=MAX_CONTINUED)
    encoding_format: Literal["float", "base64"] = "float"
    stream: bool = False


class VocabularyRequest(Strict):
    """`model` may be left out."""

    model: str | None = None
    tokens: list[TokenChoice] = Field(min_length=1, max_length=MAX_WORDS)
    nearest: int = Field(10, ge=1, le=MAX_NEAREST)
    centered: bool = False
