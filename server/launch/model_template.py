"""A checkpoint's chat templates over its tokenizer, and the end of a turn that they know."""

import logging
from collections.abc import Mapping
from typing import TypedDict

from thirdeye.server.text.reasoning.reasoning_form import AUTO
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.templates.turn_end import find_turn_end
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
EXAMPLE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]


def make_template(
    source: str,
    tool_source: str | None,
    tokenizer: Tokenizer,
    reasoning_format: str = AUTO,
    tool_format: str = AUTO,
) -> ChatTemplate:
    """`tool_source`: the template named `tool_use`, taken for conversations with tools if it writes
    calls in a form that is read here. Raises ChatTemplateError."""
    for_tools = None
    if tool_source is not None:
        for_tools = _tool_template(tool_source, tokenizer, tool_format)
    template = ChatTemplate(
        source,
        tokenizer,
        for_tools=for_tools,
        reasoning_format=reasoning_format,
        tool_format=tool_format,
        **_tokens(tokenizer),
    )
    if template.for_tools.carries_tools and not template.for_tools.writes_calls:
        logger.warning(
            "the chat template shows tools and cannot write a call of an earlier answer: a "
            "conversation that has one loses it, or is refused with what the template ran into; "
            "'--chat-template FILE' gives another"
        )
    return template


class _Tokens(TypedDict):
    bos_token: str | None
    eos_token: str | None
    other_tokens: Mapping[str, str]


def _tokens(tokenizer: Tokenizer) -> _Tokens:
    """What templates print by name: as the files say it, where they say any."""
    named = tokenizer.named_tokens
    bos = None if named is None else named.get("bos_token", "")
    return {"bos_token": bos, "eos_token": tokenizer.eos_token, "other_tokens": named or {}}


def _tool_template(source: str, tokenizer: Tokenizer, tool_format: str) -> ChatTemplate | None:
    try:
        template = ChatTemplate(
            source,
            tokenizer,
            example_tools=EXAMPLE_TOOLS,
            tool_format=tool_format,
            **_tokens(tokenizer),
        )
    except ChatTemplateError as error:
        raise ChatTemplateError(f"The template named 'tool_use': {error}") from error
    if template.carries_tools:
        return template
    logger.warning(
        "the model's template named 'tool_use' has a form of calls that is not read here: "
        "its default one is used with tools too"
    )
    return None


def ending_turns(tokenizer: Tokenizer, template: ChatTemplate | None) -> Tokenizer:
    """The tokenizer, for which the template's end of a turn ends an answer, whatever the files call
    the end of a sequence."""
    literal = None if template is None else find_turn_end(template, tokenizer.added_tokens)
    if literal is None or tokenizer.added_tokens[literal] in tokenizer.eos_token_ids:
        return tokenizer
    ends = ", ".join(map(str, sorted(tokenizer.eos_token_ids))) or "none"
    logger.warning(
        "the chat template ends turns with %s (token %d), which the model's files do not name "
        "among the tokens that end an answer (%s): answers end there too",
        literal,
        tokenizer.added_tokens[literal],
        ends,
    )
    return tokenizer.ending_with(literal)
