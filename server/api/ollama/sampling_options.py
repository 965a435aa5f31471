"""`options` of Ollama's requests: how tokens are drawn, and how the model is run.

What draws tokens is obeyed. How a runner loads a model is a hint: here that was decided when the
server started.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core.core_schema import CoreSchema, no_info_plain_validator_function

from thirdeye.server.api.field_rules.hints import AnyHint, Switch
from thirdeye.server.api.field_rules.unsupported_fields import REFUSED, Refusal
from thirdeye.server.api.requests.fields import Stop
from thirdeye.server.api.requests.generation_fields import Penalty
from thirdeye.server.api.requests.strict_model import LimitOrAny, Strict, lowered
from thirdeye.server.api.requests.value_readers import fail

UNLIMITED = (-1, -2)  # any number of tokens; as many as the context holds


@dataclass(frozen=True, slots=True)
class NotHere:
    """Marks a field inside another that may be there and may ask for nothing."""

    refusal: Refusal

    def __get_pydantic_core_schema__(self, *_: object) -> CoreSchema:
        return no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, Any]:
        return self.refusal.schema()

    def _check(self, value: object) -> None:
        if self.refusal.asks(value):
            fail(self.refusal.code, f"is not supported here: {self.refusal.hint}.")


def _limit(value: object) -> object:
    return None if type(value) is int and value in UNLIMITED else lowered(value)


NumPredict = Annotated[
    int | None,
    Field(ge=1),
    BeforeValidator(_limit),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": [*UNLIMITED]}]}),
]


class OllamaOptions(Strict):
    # obeyed
    num_predict: NumPredict = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_k: LimitOrAny | None = None
    top_p: float | None = Field(None, ge=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0.01, le=100)
    repeat_last_n: LimitOrAny | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)  # -1: another one each time
    stop: Stop = ()
    penalize_newline: bool | None = None  # false: where nothing is penalized

    # refused
    mirostat: Annotated[Any, NotHere(REFUSED["mirostat"])] = None
    tfs_z: Annotated[Any, NotHere(REFUSED["tfs_z"])] = None
    typical_p: Annotated[Any, NotHere(REFUSED["typical_p"])] = None

    mirostat_eta: Annotated[Any, NotHere(REFUSED["mirostat_eta"])] = None
    mirostat_tau: Annotated[Any, NotHere(REFUSED["mirostat_tau"])] = None

    # hints
    num_keep: AnyHint = None  # of a context that is shifted: none is
    num_ctx: AnyHint = None
    num_batch: AnyHint = None
    num_gpu: AnyHint = None
    num_thread: AnyHint = None
    main_gpu: AnyHint = None
    numa: Switch = None
    low_vram: Switch = None
    f16_kv: AnyHint = None
    use_mmap: AnyHint = None
    use_mlock: Switch = None
    logits_all: Switch = None
    vocab_only: Switch = None
    embedding_only: Switch = None
