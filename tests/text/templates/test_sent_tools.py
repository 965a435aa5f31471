"""What a template is given of tools that it was not written for."""

from typing import Any

import pytest

from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.tools.definitions import Tool

TOKENIZER = ByteTokenizer(("<|im_start|>", "<|im_end|>", "<|message|>", "<|low|>"))
SAYS_ALL = (  # as Hermes', gpt-oss's and Command R's do: each text added to the next
    "{% macro kind(t) %}{% if t in ('string', 'integer', 'null') %}{{ t }}"
    "{% elif t is defined and t is iterable %}"
    "{% for each in t %}{{ kind(each) }}{% endfor %}{% else %}any{% endif %}{% endmacro %}"
    "{% for tool in tools %}{% set f = tool.function %}{{ f.name + ': ' + f.description }}"
    "{% for name, p in f.parameters.properties.items() %}"
    "{{ ', ' + name + ('' if name in (f.parameters.required or []) else '?') + ' ' }}"
    "{{ kind(p.type) + ' ' + p.description }}{% endfor %};{% endfor %}"
    "{% for message in messages %}{{ message.content }}{% endfor %}"
)
USER = {"role": "user", "content": "Hi"}


def shown(tool: Tool | None, source: str = SAYS_ALL) -> str:
    template = ChatTemplate(source, TOKENIZER)
    return template.render([USER], tools=None if tool is None else [tool.definition])


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (None, ""),
        (Tool("f"), "f: ;"),
        (Tool("f", "d", {"type": "object"}), "f: d;"),
        (Tool("f", "d", {"properties": {"a": {"type": "string"}}}), "f: d, a? string ;"),
        (Tool("f", "d", {"properties": {"a": True}}), "f: d, a? any ;"),
        (Tool("f", "d", {"properties": {"a": {"type": ["string", "x"]}}}), "f: d, a? any ;"),
    ],
)
def test_a_template_that_wants_more_than_was_sent_gets_it_empty(
    tool: Tool | None, expected: str
) -> None:
    assert shown(tool) == expected + "Hi"


def test_a_template_that_can_do_with_what_was_sent_gets_that() -> None:
    source = "{{ tools | tojson if tools is not none else 'no tools' }}{{ messages[0].content }}"
    tool = Tool("f", None, {"properties": {"a": {"type": ["string", "null"]}}})
    assert shown(None, source) == "no toolsHi"
    assert "description" not in shown(tool, source)
    assert '["string", "null"]' in shown(tool, source)


def test_a_template_that_refuses_is_asked_once() -> None:
    source = (
        "{% if tools %}{{ raise_exception(tools[0].function.description or 'no words') }}"
        "{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(ChatTemplateError, match="no words"):
        shown(Tool("f"), source)


@pytest.mark.parametrize("name", ["message", "im", "start", "m", "end"])
def test_a_required_property_is_found_whatever_special_tokens_are_called(name: str) -> None:
    """`name in required` of a template compares a key with an item."""
    parameters: dict[str, Any] = {"properties": {name: {"type": "string", "description": "d"}}}
    assert f"{name}? string" in shown(Tool("f", "", parameters))
    assert f"{name} string" in shown(Tool("f", "", parameters | {"required": [name]}))


def test_a_required_property_makes_no_special_token() -> None:
    source = "{{ tools[0].function.parameters.required | join if tools }}{{ messages[0].content }}"
    odd = ByteTokenizer(("<|im_start|>", "<|im_end|>", "stop"))
    template = ChatTemplate(source, odd)
    tools = [Tool("f", "", {"required": ["stop", "st op", "<|im_end|>", "stop it"]}).definition]
    assert bytes(template.encode([USER], tools=tools)).decode() == "stopst op<|im_end|>stop itHi"


def test_what_a_request_says_to_the_template_can_be_compared() -> None:
    source = "{{ 'less' if effort == 'low' else 'more' }}{{ messages[0].content }}"
    template = ChatTemplate(source, TOKENIZER)
    assert template.render([USER], variables={"effort": "low"}) == "lessHi"
    assert template.render([USER], variables={"effort": "high"}) == "moreHi"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 'Functions: ' + functions }}{{ messages[0].content }}", "'functions' is undefined"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
    ],
)
def test_a_template_that_fails_says_what_it_lacks(source: str, reason: str) -> None:
    with pytest.raises(ChatTemplateError, match=reason):
        ChatTemplate(source, TOKENIZER)
