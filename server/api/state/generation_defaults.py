"""What a request that does not say gets: the model's own suggestions, else the API's defaults."""

from collections.abc import Set
from typing import Any

from msgspec import Struct

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class GenerationDefaults(Struct, frozen=True, kw_only=True):
    """By the names of requests. None: the model suggests nothing, and the API's default counts.

    `max_tokens` is for chat alone, where a request without a limit may fill the context: an answer
    is no longer than this.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None

    def sampling(self, body: Any, named: Set[str]) -> dict[str, Any]:
        """The values to sample with: those `named` in the request, the model's, the API's."""
        return {name: self._value(name, body, named) for name in SAMPLED}

    def _value(self, name: str, body: Any, named: Set[str]) -> Any:
        suggested = getattr(self, name)
        return getattr(body, name) if name in named or suggested is None else suggested

    def said(self) -> dict[str, float]:
        """What the model suggests."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in values if value is not None}
