"""A conversation with calls and results is the prompt that `transformers` makes of it."""

import json
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.tools.families.family_templates import FAMILIES
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tools.families.call_form import CallIds
from thirdeye.server.text.tools.families.form_table import CALL_FORMS
from thirdeye.server.text.tools.tool_prompt import fit

ARGUMENTS = {"city": "Paris", "days": 3, "tags": ["a", True]}
DEFINITIONS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def conversation(arguments: Any, call_id: str) -> list[dict[str, Any]]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": call_id},
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_tells_the_form(name: str) -> None:
    template = ChatTemplate(FAMILIES[name], ByteTokenizer())
    assert template.call_form is CALL_FORMS.get(name)
    assert template.carries_tools


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_and_results_reach_the_prompt_as_the_familys_own(name: str) -> None:
    source = FAMILIES[name]
    template = ChatTemplate(source, ByteTokenizer())
    sent = conversation(json.dumps(ARGUMENTS), "call_0123456789abcdef")
    messages, tools = fit(sent, DEFINITIONS, template)
    wanted_id = messages[1]["tool_calls"][0]["id"]
    assert messages[2]["tool_call_id"] == wanted_id
    own = json.dumps(ARGUMENTS) if name == "deepseek" else ARGUMENTS
    expected = render_jinja_template(
        [conversation(own, wanted_id)],
        chat_template=source,
        tools=DEFINITIONS,
        add_generation_prompt=True,
    )
    assert template.render(messages, tools=tools) == expected[0][0]
    assert "sunny" in expected[0][0]


@pytest.mark.parametrize(
    ("ids", "wanted"), [(CallIds.NINE, 9), (CallIds.COUNTED, len("functions.f:0"))]
)
def test_ids_of_other_servers_become_the_familys(ids: CallIds, wanted: int) -> None:
    name = next(form.name for form in CALL_FORMS.values() if form.ids is ids)
    template = ChatTemplate(FAMILIES.get(name) or FAMILIES["mistral"], ByteTokenizer())
    messages, _ = fit(conversation("{}", "call_" + "x" * 30), None, template)
    assert len(messages[1]["tool_calls"][0]["id"]) == wanted
    again, _ = fit(messages, None, template)
    assert again == messages, "its own ids stay as they are"


def test_a_form_can_be_named() -> None:
    template = ChatTemplate(FAMILIES["glm"], ByteTokenizer(), tool_format="hermes")
    assert template.call_form is None
    template = ChatTemplate(FAMILIES["glm"], ByteTokenizer(), tool_format="qwen_xml")
    assert template.call_form is CALL_FORMS["qwen_xml"]
