"""Blocks of text, of which a string is one."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from thirdeye.server.api.anthropic.cache_control import CacheHint
from thirdeye.server.api.field_rules.hints import Hint
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import of_kind
from thirdeye.server.api.requests.value_readers import array


class TextBlock(Strict):
    type: Literal["text"]
    text: str
    cache_control: CacheHint = None
    citations: Annotated[list[object] | None, Hint()] = None  # of answers that come back


def as_blocks(value: object) -> object:
    """A string is a list of one text block."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return array(value, wanted="a string or a list of blocks")


TextBlocks = list[
    Annotated[TextBlock, of_kind("text", code="unsupported_content", names_object=True)]
]
Text = Annotated[
    TextBlocks,
    Field(fail_fast=True),
    BeforeValidator(as_blocks, json_schema_input_type=str | TextBlocks),
]
