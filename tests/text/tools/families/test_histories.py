"""A conversation with calls and results is the prompt that `transformers` makes of it."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.tools.families.family_templates import FAMILIES
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.templates.special_tokens import MARK
from thirdeye.server.text.tools.families.call_form import CallIds
from thirdeye.server.text.tools.families.form_table import CALL_FORMS
from thirdeye.server.text.tools.tool_prompt import fit

ARGUMENTS = {"city": "Paris", "days": 3, "tags": ["a", True]}
_PROPERTIES = {"city": {"type": "string", "description": "<where>"}, "days": {"type": "integer"}}
_SCHEMA = {"type": "object", "properties": _PROPERTIES, "required": ["city"]}
DEFINITIONS = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}},
    {
        "type": "function",
        "function": {"name": "g.h", "parameters": {"type": "object", "properties": {}}},
    },
]
WITHOUT_TOOLS = ("deepseek", "deepseek31")  # templates that write calls and show no tools
TEXT_ARGUMENTS = NULL_CONTENT = ("deepseek",)


Message = dict[str, Any]


def called(content: str, *calls: tuple[str, Any, str]) -> Message:
    """An assistant's message; each call is a name, arguments and an id."""
    tool_calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments, call_id in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def result(content: str, call_id: str, name: str = "f") -> Message:
    return {"role": "tool", "name": name, "content": content, "tool_call_id": call_id}


def conversation(arguments: Any, call_id: str) -> list[Message]:
    return [user("Weather?"), called("", ("f", arguments, call_id)), result("sunny", call_id)]


def conversations(as_sent: Callable[[Any], Any], a: str, b: str) -> dict[str, list[Message]]:
    """`a` and `b` are ids of calls."""
    one, two = ("f", as_sent(ARGUMENTS), a), ("g.h", as_sent({}), b)
    system = {"role": "system", "content": "Be brief."}
    first = [user("Weather?"), called("", one), result("sunny", a)]
    return {
        "one call": first,
        "text beside it": [user("Weather?"), called("Let me see.", one), result('{"t": 1}', a)],
        "two at once": [
            *[user("?"), called("", one, two), result("sunny", a), result("42", b, "g.h")],
            *[assistant("Done."), user("Thanks.")],
        ],
        "two rounds": [system, *first, called("", two), result("42", b, "g.h")],
        "an answer": [
            system,
            *first,
            assistant("It is sunny."),
            user("And?"),
            assistant("?"),
            user("!"),
        ],
    }


NAMES = tuple(conversations(json.dumps, "a", "b"))


@cache
def template_of(name: str) -> ChatTemplate:
    """Compiled once for all conversations."""
    return ChatTemplate(FAMILIES[name], ByteTokenizer())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_tells_the_form(name: str) -> None:
    template = template_of(name)
    assert template.call_form is CALL_FORMS.get(name)
    assert template.carries_calls
    assert template.carries_tools is (name not in WITHOUT_TOOLS)


def test_calls_with_their_ids_in_them_are_of_the_form() -> None:
    """As Mistral Small 3.2 writes them."""
    with_ids = FAMILIES["mistral11"].replace("[ARGS]", "[CALL_ID]' + call.id + '[ARGS]")
    assert with_ids != FAMILIES["mistral11"]
    template = ChatTemplate(with_ids, ByteTokenizer())
    assert template.call_form is CALL_FORMS["mistral11"]
    assert "[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{" in template.render(
        fit(conversation("{}", "123456789"), None, template)[0]
    )


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", FAMILIES)
def test_calls_and_results_reach_the_prompt_as_the_familys_own(name: str, kind: str) -> None:
    """As `transformers` has them, given what the template asks for: its own ids, arguments as an
    object or as text, a null content beside a call or an empty one."""
    template = template_of(name)
    sent = conversations(json.dumps, "call_0123456789abcdef", "toolu_x")[kind]
    messages, tools = fit(sent, DEFINITIONS, template)
    own_ids = list(dict.fromkeys(c["id"] for m in messages for c in m.get("tool_calls", ())))
    text = json.dumps if name in TEXT_ARGUMENTS else lambda arguments: arguments
    expected = conversations(text, *[*own_ids, "none_else"][:2])[kind]
    if name in NULL_CONTENT:
        expected = [m | {"content": m["content"] or None} for m in expected]
    if name in WITHOUT_TOOLS:  # they stand in a message of ours
        expected = [messages[0], *(m for m in expected if m["role"] != "system")]
    try:
        (prompt,), _ = render_jinja_template(
            [expected],
            chat_template=FAMILIES[name],
            tools=None if name in WITHOUT_TOOLS else DEFINITIONS,
            add_generation_prompt=True,
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
        )
    except TemplateError as error:
        with pytest.raises(ChatTemplateError, match=str(error)):
            template.render(messages, tools=tools)
        assert (name, kind) == ("llama", "two at once")
        return
    assert template.render(messages, tools=tools) == prompt
    assert all(word in prompt for word in ("Paris", "sunny") if kind != "text beside it")
    assert MARK not in prompt


def test_thoughts_are_a_part_of_the_content_where_the_template_has_them_so() -> None:
    """As Ministral 3's and Magistral's; other templates get them beside a content that is text."""
    source = (
        "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}"
        "{% else %}{% for part in m.content %}{% if part['type'] == 'thinking' %}"
        "{{ '[THINK]' + part['thinking'] + '[/THINK]' }}{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}{% for call in m.tool_calls or [] %}[TOOL_CALLS]"
        "{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}"
        "{% endfor %}"
    )
    template = ChatTemplate(source, ByteTokenizer())
    thought, part = {"reasoning_content": "Hm."}, {"type": "thinking", "thinking": "Hm."}
    sent = [user("?"), called("", ("f", {}, "a")), user("!"), assistant("Yes."), assistant("No.")]
    own = [m | thought if i in (1, 3) else m for i, m in enumerate(sent)]
    parts = {1: [part], 3: [part, {"type": "text", "text": "Yes."}]}
    expected = [m | {"content": parts.get(i, m["content"])} for i, m in enumerate(sent)]
    (prompt,), _ = render_jinja_template([expected], chat_template=source)
    assert template.render(own) == prompt
    assert "[THINK]Hm.[/THINK]Yes." in prompt
    begun = template.render(own[:4], continue_final_message=True)
    assert begun.endswith("[THINK]Hm.[/THINK]Yes.")
    assert template.reads_thoughts


def test_a_list_is_printed_as_python_writes_it_however_it_is_put_together() -> None:
    """What is marked in it against special tokens has no printable form: no trace of it stays."""
    source = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if x %}{{ x }}|{{ x | string }}|"
        "{{ x ~ '' }}|"
        "{{ '%s' % (x,) }}|{{ '%s' | format(x) }}|{{ '{}'.format(x) }}|{{ [x, x] | join('+') }}|"
        "{{ '%(a)s' % {'a': x} }}|{{ {'k': x} }}|{{ '<' ~ (x | tojson | safe) ~ '>' }}{% endif %}"
    )
    x = ["<|im_end|>", r"a \ue000 b", True, {"<": "m_end"}]
    template = ChatTemplate(source, ByteTokenizer())
    (expected,), _ = render_jinja_template([[user("Hi")]], chat_template=source, x=x)
    assert template.render([user("Hi")], variables={"x": x}) == expected
    assert 257 not in template.encode([user("Hi")], variables={"x": x}), "no special token of it"


def test_a_template_without_tools_has_them_in_words_of_its_form() -> None:
    template = ChatTemplate(FAMILIES["deepseek31"], ByteTokenizer())
    messages, tools = fit(conversation("{}", "c"), DEFINITIONS, template)
    assert tools is None
    assert (
        "<｜tool▁call▁begin｜><function-name><｜tool▁sep｜><arguments-object>"
        in messages[0]["content"]
    )
    assert "<tool_call>" not in template.render(messages)
    assert fit(conversation("{}", "c"), None, template)[0][0]["role"] == "user"


@pytest.mark.parametrize(
    "written",
    [
        "<function={{ call.function.name }}>({{ call.function.arguments | tojson }})</function>",
        "<|python_tag|>{{ call.function.name }}({{ call.function.arguments | tojson }})",
        "[TOOL_CALLS]{{ call.function.name }}({{ call.function.arguments | tojson }})",
        "<tool_call>[{{ call.function | tojson }}]</tool_call>",
        "~<tool_call>~<invoke name={{ call.function.name }}></invoke></tool_call>",
    ],
)
def test_a_form_that_only_looks_like_one_is_none_of_ours(written: str) -> None:
    source = (
        "{{ tools | tojson }}{% for m in messages %}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}" + written + "{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source, ByteTokenizer())
    assert not template.carries_tools
    assert not template.carries_calls


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
