"""What an answer's text is made of: thoughts, content and calls, in pieces.

    text -> ThinkParser -> thoughts
                `-> ToolCallParser -> content, calls
    text -> HarmonyParser -> all three

Which of them a model needs, its forms say; an answer without either needs no reader at all.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from thirdeye.server.text.events import Piece, Thought
from thirdeye.server.text.reasoning.harmony_parser import HarmonyParser
from thirdeye.server.text.reasoning.reasoning_form import HARMONY, PromptState, ReasoningForm
from thirdeye.server.text.reasoning.think_parser import ThinkParser
from thirdeye.server.text.tools.call_parser import ToolCallParser
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.form_parser import FormParser
from thirdeye.server.text.tools.families.form_table import HARMONY_CALLS
from thirdeye.server.text.tools.families.typed_values import Schema

EMPTY: Mapping[str, Schema] = MappingProxyType({})


class AnswerReader(Protocol):
    """Reads one answer; what it returns is final. A cut of the text changes nothing."""

    @property
    def num_calls(self) -> int: ...

    @property
    def num_held(self) -> int:
        """How many characters at the end of what was fed are still open."""

    @property
    def is_thinking(self) -> bool: ...

    @property
    def is_over(self) -> bool:
        """Whether all that comes is content, as it is."""

    def feed(self, text: str) -> list[Piece]:
        """What is now certain, in order."""

    def end_thinking(self) -> list[Piece]:
        """A token begins a call: thinking that is still open is over."""

    def flush(self) -> list[Piece]:
        """The end."""


CallParser = ToolCallParser | FormParser


def make_reader(
    reasoning: ReasoningForm | None,
    state: PromptState,
    *,
    parse_tool_calls: bool,
    form: CallForm | None = None,
    parameters: Mapping[str, Schema] = EMPTY,
) -> AnswerReader | None:
    """None where all text is content. `form` is that of the calls, None being Hermes';
    `parameters` the schemas of the tools' arguments."""
    if reasoning is HARMONY or (parse_tool_calls and form is HARMONY_CALLS):
        return HarmonyParser(state, parse_calls=parse_tool_calls)
    thoughts = ThinkParser(reasoning, state) if reasoning is not None else None
    calls: CallParser | None = None
    if parse_tool_calls:
        calls = ToolCallParser() if form is None else FormParser(form, parameters)
    return ThinkThenCall(thoughts, calls) if thoughts or calls else None


class ThinkThenCall:
    """Thoughts first, and then content with calls in it; either may be missing."""

    def __init__(self, thoughts: ThinkParser | None, calls: CallParser | None) -> None:
        self._thoughts = thoughts
        self._calls = calls

    @property
    def num_calls(self) -> int:
        return self._calls.num_calls if self._calls else 0

    @property
    def num_held(self) -> int:
        return sum(parser.num_held for parser in (self._thoughts, self._calls) if parser)

    @property
    def is_thinking(self) -> bool:
        return self._thoughts is not None and self._thoughts.is_thinking

    @property
    def is_over(self) -> bool:
        return self._calls is None and (self._thoughts is None or self._thoughts.is_over)

    def feed(self, text: str) -> list[Piece]:
        if self._thoughts is None:
            return self._answer([text])
        return self._answer(self._thoughts.feed(text))

    def end_thinking(self) -> list[Piece]:
        return [*self._thoughts.end_thinking()] if self._thoughts else []

    def flush(self) -> list[Piece]:
        rest = self._answer(self._thoughts.flush() if self._thoughts else [])
        return rest + (self._calls.flush() if self._calls else [])

    def _answer(self, pieces: list[str | Thought]) -> list[Piece]:
        if self._calls is None:
            return [*pieces]
        found: list[Piece] = []
        for piece in pieces:
            found += self._calls.feed(piece) if isinstance(piece, str) else [piece]
        return found
