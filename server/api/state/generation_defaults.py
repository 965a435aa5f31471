"""What a request that does not say gets: the model's own suggestions, else the API's defaults."""

import json
from collections.abc import Mapping, Set
from typing import Any, TypeVar

from msgspec import Struct
from pydantic import BaseModel

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
FILLED = ("min_tokens", "stop")
Body = TypeVar("Body", bound=BaseModel)


class GenerationDefaults(Struct, frozen=True, kw_only=True):
    """By the names of requests. None: the model suggests nothing, and the API's default counts.

    `max_tokens` is for chat alone, where a request without a limit may fill the context: an answer
    is no longer than this. `min_tokens` yields to a smaller limit.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: dict[int, float] | None = None

    def sampling(self, body: Any, named: Set[str]) -> dict[str, Any]:
        """The values to sample with: those `named` in the request, the model's, the API's."""
        return {name: self._value(name, body, named) for name in SAMPLED}

    def fill(self, body: Body) -> Body:
        """The request with what the model suggests of its end and of single tokens. A token that
        the request itself biases is its own; `model_fields_set` stays what the caller named."""
        named = body.model_fields_set
        said = {name: self._value(name, body, named) for name in FILLED}
        if self.logit_bias:
            said["logit_bias"] = self.logit_bias | getattr(body, "logit_bias", {})
        if all(value == getattr(body, name) for name, value in said.items()):
            return body
        filled = body.model_copy(update=said)
        filled.model_fields_set.intersection_update(named)
        return filled

    def _value(self, name: str, body: Any, named: Set[str]) -> Any:
        suggested = getattr(self, name)
        return getattr(body, name) if name in named or suggested is None else suggested

    def said(self) -> dict[str, object]:
        """What the model suggests."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in values if value is not None}


def shown(said: Mapping[str, object]) -> str:
    """In one line, for a person."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in said.items())


def _shown(value: object) -> str:
    match value:
        case tuple() | list():
            return " ".join(json.dumps(item, ensure_ascii=False) for item in value)
        case dict():
            return f"of {len(value)} tokens"
    return f"{value:g}"
