"""Custom tools: their input is text, plain or of a form, and no JSON."""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from thirdeye.server.api.field_rules.hints import Hint
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.tool_fields import ToolName

# Programs that run where a model does might call it, too: there are none here.
CallerHint = Annotated[Any, Hint((["direct"], ["direct", "programmatic"]))]


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

    def as_chat(self) -> JsonObject:
        """In chat's words."""
        shown = self.model_dump(include={"name", "description", "format"}, exclude_none=True)
        return {"type": "custom", "custom": shown}
