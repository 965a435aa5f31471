"""The one form of a tool call in text, as the Hermes and Qwen families write it:

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

The grammar makes a model write it, the parser reads it, and history is written in it where a
checkpoint's template has no form of its own.
"""

import json
import re

from thirdeye.server.text.reasoning.reasoning_form import REASONING_MARKUP
from thirdeye.server.text.tokenizer import TokenizerLike
from thirdeye.server.text.tools.families.form_table import CALL_MARKUP

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
TAGS = (OPEN, CLOSE)
RESPONSE_OPEN = "<tool_response>"
RESPONSE_CLOSE = "</tool_response>"
MARKUP = (*TAGS, RESPONSE_OPEN, RESPONSE_CLOSE)  # which only a template or a model writes
ANSWER_MARKUP = REASONING_MARKUP.union(CALL_MARKUP, TAGS)  # which an answer's text is read by
FRONT = "\x02"  # no part of any word

_MARKS = re.compile(f"({'|'.join(map(re.escape, sorted(ANSWER_MARKUP)))})")


def head_of(name: str) -> str:
    """What stands between the opening tag and the arguments."""
    return f'\n{{"name": {json.dumps(name)}, "arguments": '


TAIL = "}\n"  # between the arguments and the closing tag
SEPARATOR = "\n"  # between two calls


def write_call(name: str, arguments: str) -> str:
    """One call; `arguments` is JSON already, and is not looked at."""
    return f"{OPEN}{head_of(name)}{arguments}{TAIL}{CLOSE}"


def write_response(content: str) -> str:
    """What a tool answered."""
    return f"{RESPONSE_OPEN}\n{content}\n{RESPONSE_CLOSE}"


def encode_with_tags(text: str, tokenizer: TokenizerLike) -> list[int]:
    """Token ids of a model's own text, where a mark is one token if its vocabulary has it."""
    ids: list[int] = []
    for part in _MARKS.split(text):
        is_token = part in ANSWER_MARKUP and part in tokenizer.special_tokens
        ids += [tokenizer.special_tokens[part]] if is_token else _encode_inside(part, tokenizer)
    return ids


def _encode_inside(text: str, tokenizer: TokenizerLike) -> list[int]:
    """As text inside an answer: without the space that some models put where a text starts.

    That space may be one token with the first word, so a character that is no part of any word
    stands in front, and goes again.
    """
    ids = tokenizer.encode(text, follows_special=True)
    if b"".join(map(tokenizer.token_bytes, ids)) == text.encode():
        return ids
    marked = tokenizer.encode(FRONT + text, follows_special=True)
    for i, token_id in enumerate(marked):
        if tokenizer.token_bytes(token_id) == FRONT.encode():
            return marked[i + 1 :]
    return ids
