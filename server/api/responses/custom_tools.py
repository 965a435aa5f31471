"""Custom tools: their input is text, plain or of a form, and no JSON.

To a model each is a function of one string, `input`, so that every family's form of calls can carry
it; an answer shows the string. A regular expression holds the string by the function's schema. A
grammar in Lark's notation is in the tool's description, and is named as not held.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from thirdeye.server.api.field_rules.hints import Hint
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.tool_fields import ToolName

# Programs that run where a model does might call it, too: there are none here.
CallerHint = Annotated[Any, Hint((["direct"], ["direct", "programmatic"]))]
_WORDS = {
    "regex": "Its input is text that this regular expression matches",
    "lark": "Its input is text of this grammar, in Lark's notation",
}


class PlainInput(Strict):
    type: Literal["text"]


class GrammarInput(Strict):
    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: str = Field(min_length=1, max_length=64 * 1024)


InputFormat = Annotated[
    Annotated[PlainInput, Tag("<text>")] | Annotated[GrammarInput, Tag("<grammar>")],
    *kinds("text", "grammar"),
]


class CustomTool(Strict):
    type: Literal["custom"]
    name: ToolName
    description: str | None = None
    format: InputFormat | None = None
    allowed_callers: CallerHint = None
    defer_loading: Annotated[bool, Hint((False,))] = False

    @property
    def has_loose_form(self) -> bool:
        """Whether it asks for a form that calls are not held to."""
        return isinstance(self.format, GrammarInput) and self.format.syntax == "lark"

    def as_function(self) -> JsonObject:
        """In chat's words."""
        text: dict[str, Any] = {"type": "string"}
        said = [self.description] if self.description else []
        if isinstance(self.format, GrammarInput):
            said.append(f"{_WORDS[self.format.syntax]}:\n{self.format.definition}")
            if self.format.syntax == "regex":
                text["pattern"] = f"^(?:{self.format.definition})$"
        parameters = {
            "type": "object",
            "properties": {"input": text},
            "required": ["input"],
            "additionalProperties": False,
        }
        function: JsonObject = {"name": self.name, "parameters": parameters, "strict": True}
        return function | ({"description": "\n\n".join(said)} if said else {})
