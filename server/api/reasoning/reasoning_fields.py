"""The fields of a chat request that are about thinking, by all the names that programs send.

    enable_thinking, think, thinking, reasoning, reasoning_effort     whether and how hard
    thinking_token_budget                                             how many tokens at most
    include_reasoning, include_reasoning_logprobs                     what is shown of it
    separate_reasoning, reasoning_format                              and where
    chat_template_kwargs                                              the template's own variables

What they come to for a model is in `thirdeye.server.api.generation.thinking`.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from thirdeye.server.api.requests.strict_model import LimitOrAny, Strict
from thirdeye.server.api.requests.value_readers import fail

MAX_TEMPLATE_KWARGS = 32
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Budget = LimitOrAny | None  # -1: any number
ThinkMode = Literal["enabled", "adaptive", "auto", "disabled"]
ReasoningFormat = Literal["auto", "none", "deepseek", "deepseek-legacy"]  # llama.cpp's


class ThinkSwitch(Strict):
    """Anthropic's form of it, which some send to chat too."""

    type: ThinkMode
    budget_tokens: Budget = None


class ReasoningOptions(Strict):
    """OpenRouter's `reasoning`."""

    effort: Effort | None = None
    max_tokens: Budget = None
    exclude: bool = False
    enabled: bool | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


def _few(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_TEMPLATE_KWARGS:
        rule = f"must hold at most {MAX_TEMPLATE_KWARGS} items, got {len(value)}."
        fail("object_above_max_properties", rule)
    return value


def read_think(value: object) -> object:
    if not isinstance(value, bool) and value not in LEVELS:
        fail("invalid_value", "must be true, false, 'low', 'medium' or 'high'.")
    return value


LEVELS = ("low", "medium", "high")
Think = Annotated[  # Ollama's form of it
    bool | str | None, PlainValidator(read_think), WithJsonSchema({"enum": [True, False, *LEVELS]})
]
TemplateKwargs = Annotated[
    dict[str, Any], BeforeValidator(_few), Field(max_length=MAX_TEMPLATE_KWARGS)
]


class ReasoningFields(Strict):
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    reasoning_effort: Effort | None = None
    reasoning: ReasoningOptions | None = None
    thinking: ThinkSwitch | None = None
    enable_thinking: bool | None = None
    think: Think = None
    thinking_token_budget: Budget = None
    include_reasoning: bool = True
    separate_reasoning: bool = True
    reasoning_format: ReasoningFormat | None = None
    include_reasoning_logprobs: bool = False

    def switches(self) -> Iterator[tuple[str, bool]]:
        """Each field that says whether to think, and what it says."""
        if self.enable_thinking is not None:
            yield "enable_thinking", self.enable_thinking
        if self.thinking is not None and self.thinking.type != "auto":
            yield "thinking", self.thinking.type != "disabled"
        if self.think is not None:
            yield "think", self.think is not False
        if self.reasoning is not None and self.reasoning.enabled is not None:
            yield "reasoning.enabled", self.reasoning.enabled
        for name, effort in self.efforts():
            yield name, effort != "none"

    def efforts(self) -> Iterator[tuple[str, str]]:
        if self.reasoning_effort is not None:
            yield "reasoning_effort", self.reasoning_effort
        if self.reasoning is not None and self.reasoning.effort is not None:
            yield "reasoning.effort", self.reasoning.effort
        if isinstance(self.think, str):
            yield "think", self.think

    def budgets(self) -> Iterator[tuple[str, int]]:
        """In tokens."""
        if self.thinking_token_budget is not None:
            yield "thinking_token_budget", self.thinking_token_budget
        if self.reasoning is not None and self.reasoning.max_tokens is not None:
            yield "reasoning.max_tokens", self.reasoning.max_tokens
        if self.thinking is not None and self.thinking.budget_tokens is not None:
            yield "thinking.budget_tokens", self.thinking.budget_tokens

    def mixed(self) -> Iterator[str]:
        """The fields that want thoughts among the content."""
        if not self.separate_reasoning:
            yield "separate_reasoning"
        if self.reasoning_format in ("none", "deepseek-legacy"):
            yield "reasoning_format"

    @property
    def shows_reasoning(self) -> bool:
        return self.include_reasoning and not (self.reasoning and self.reasoning.exclude)
