"""What a caller says about tools: which there are, and whether the answer may or must call them.

Plain data, already checked: names are unique, made of `NAME_CHARS` and at most `MAX_NAME_CHARS`
long, and `parameters` is the JSON schema of an object. The dialects of the API (chat, responses,
messages) each read their own spelling of it into these.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

NAME_CHARS = frozenset(string.ascii_letters + string.digits + "_-./")
MAX_NAME_CHARS = 128
MAX_COUNTED_CALLS = 128  # more in one answer are not counted

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextInput:
    """A tool's input that is text, and no arguments: any, or of a form.

    To a model the tool is a function of one string, so that every family's form of calls can carry
    it. A regular expression stands in that string's schema.
    """

    lark: str | None = None  # the grammar of the text

    NAME: ClassVar[str] = "input"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    text_input: TextInput | None = None
    strict: bool | None = None  # true: arguments are held to all of the schema, or it is refused

    @property
    def definition(self) -> JsonObject:
        """As templates and models know it: OpenAI's form."""
        function: JsonObject = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        return {"type": "function", "function": function | {"parameters": self.arguments_schema}}

    @property
    def arguments_schema(self) -> JsonObject:
        """The schema, which says `object` whatever the caller wrote or left out."""
        return {"type": "object"} | dict(self.parameters) | {"type": "object"}


class ChoiceMode(StrEnum):
    NONE = "none"  # no call: the tools are not shown to the model
    AUTO = "auto"  # text, then calls if the model begins one
    REQUIRED = "required"  # calls and nothing else
    NAMED = "named"  # one call of the tool that `ToolChoice.name` names


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: ChoiceMode
    name: str | None = None  # with NAMED
    allowed: tuple[str, ...] | None = None  # of all that are shown, those that may be called


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request, and what the answer may do with them. There is at least one."""

    tools: Sequence[Tool]
    choice: ToolChoice = ToolChoice(ChoiceMode.AUTO)
    is_parallel: bool = True  # more than one call is allowed
    max_calls: int | None = None

    @property
    def may_call(self) -> bool:
        return self.choice.mode is not ChoiceMode.NONE

    @property
    def repetition(self) -> str:
        """How often a grammar may go on with one more call behind the first; "" is never."""
        if self.choice.mode is ChoiceMode.NAMED or not self.is_parallel or self.max_calls == 1:
            return ""
        is_bounded = self.max_calls is not None and self.max_calls <= MAX_COUNTED_CALLS
        return f"{{0,{self.max_calls - 1}}}" if self.max_calls and is_bounded else "*"

    def shown_tools(self) -> Sequence[Tool]:
        """Those that the model is told of."""
        return self.tools if self.may_call else ()

    def callable_tools(self) -> Sequence[Tool]:
        """Those that this answer may call."""
        named = (self.choice.name,) if self.choice.mode is ChoiceMode.NAMED else None
        allowed = named or self.choice.allowed
        return [tool for tool in self.shown_tools() if allowed is None or tool.name in allowed]
