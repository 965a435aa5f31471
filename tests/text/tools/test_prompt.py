"""Tools in prompts: by the template that knows them, or as text, the same for every other one."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.templates.chat_templates import HERMES, LLAMA3, SMOLLM2, TOOLS
from tests.text.templates.test_chat_parity import reference
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tools.call_parser import ToolCallParser
from thirdeye.server.text.tools.definitions import Tool
from thirdeye.server.text.tools.form import write_call
from thirdeye.server.text.tools.tool_prompt import fit, tool_prompt, without_tools

TOKENIZER = ByteTokenizer()
WEATHER = Tool("get_weather", "The weather é", {"properties": {"city": {"type": "string"}}})
DEFINITIONS = [WEATHER.definition, Tool("now").definition]
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + LLAMA3
)

Message = dict[str, Any]


def user(content: str = "Hi") -> Message:
    return {"role": "user", "content": content}


def called(content: str, *calls: tuple[str, Any]) -> Message:
    """An assistant's message; arguments that are no string are what templates see."""
    functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
    tool_calls = [
        {"id": f"call_{i}", "type": "function", "function": function}
        for i, function in enumerate(functions)
    ]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def result(content: str) -> Message:
    return {"role": "tool", "content": content, "tool_call_id": "call_0"}


@cache
def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, TOKENIZER)


def render(source: str, messages: list[Message], tools: Any = DEFINITIONS) -> str:
    template = template_of(source)
    fitted, shown = fit(messages, tools, template)
    return template.render(fitted, tools=shown)


def test_which_templates_carry_tools() -> None:
    """One that prints `tools`, and calls in the form that is read here; no other form is read."""
    carries = {
        source: ChatTemplate(source, TOKENIZER).carries_tools
        for source in (HERMES, TOOLS, SMOLLM2, "{# <tool_call> tools #}" + SMOLLM2)
    }
    assert list(carries.values()) == [True, False, False, False]


text = st.text("ab <|>_im_end\n\té🎉'\"&\\{}", max_size=10)
values = st.recursive(text | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=3)
arguments_of = st.dictionaries(text, values, max_size=2)
calls_of = st.lists(st.tuples(st.sampled_from(["f", "get-it_1"]), arguments_of), max_size=2)
answers = st.builds(lambda content, calls: called(content, *calls), text, calls_of)
turns = st.builds(user, text) | st.builds(result, text) | answers


@draws(20, 100)
@given(turns=st.lists(turns, max_size=4), has_tools=st.booleans(), system=text)
def test_a_template_that_knows_tools_says_what_the_reference_says(
    turns: list[Message], has_tools: bool, system: str
) -> None:
    """Byte for byte what `transformers` makes of it, though our arguments come as JSON text."""
    messages = [{"role": "system", "content": system}, *turns]
    tools = DEFINITIONS if has_tools else None
    as_sent = [_with_text_arguments(message) for message in messages]
    expected = reference(HERMES, messages, tools=tools, add_generation_prompt=True)
    assert render(HERMES, as_sent, tools) == expected


def _with_text_arguments(message: Message) -> Message:
    calls = [
        call | {"function": call["function"] | {"arguments": json.dumps(arguments)}}
        for call in message.get("tool_calls", [])
        for arguments in [call["function"]["arguments"]]
    ]
    return message | ({"tool_calls": calls} if calls else {})


def test_the_default_prompt_word_for_word() -> None:
    """Documented, so it is held to the letter; the same for every model."""
    assert tool_prompt(DEFINITIONS[1:]) == (
        "# Tools\n\nYou may call one or more functions to help with the user's request. These are "
        "their signatures, as JSON within <tools></tools> tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}\n'
        "</tools>\n\nTo call a function, answer with its name and its arguments, as a JSON object "
        "within <tool_call></tool_call> tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <arguments-object>}\n</tool_call>\n\n'
        "What it returns comes back within <tool_response></tool_response> tags."
    )


@pytest.mark.parametrize("source", [SMOLLM2, LLAMA3, TOOLS], ids=["smollm2", "llama3", "other"])
def test_other_templates_get_it_behind_the_systems_text(source: str) -> None:
    prompt = tool_prompt(DEFINITIONS)
    plain = {"role": "system", "content": "Be brief."}
    expected = ChatTemplate(source, TOKENIZER).render(
        [plain | {"content": f"Be brief.\n\n{prompt}"}, user()]
    )
    assert render(source, [plain, user()]) == expected
    assert render(source, [plain | {"role": "developer"}, user()]) == expected
    alone = ChatTemplate(source, TOKENIZER).render([plain | {"content": prompt}, user()])
    assert render(source, [user()]) == render(source, [plain | {"content": ""}, user()]) == alone


def test_a_template_without_a_system_message_gets_it_with_the_question() -> None:
    template = ChatTemplate(NO_SYSTEM, TOKENIZER)
    assert not template.takes_system
    prompt = tool_prompt(DEFINITIONS)
    expected = template.render([user(f"{prompt}\n\nHi")])
    assert render(NO_SYSTEM, [user()]) == expected


def test_history_is_written_as_the_model_would_have() -> None:
    """Calls behind the content; results in a row are one turn of the user."""
    messages = [
        user(),
        called("Let me see.", ("f", '{"a": 1}'), ("g", "{cut")),
        result("one"),
        result("two"),
        called("", ("f", "{}")),
        result("three"),
    ]
    f, g = write_call("f", '{"a": 1}'), write_call("g", "{cut")
    one, two, three = (f"<tool_response>\n{t}\n</tool_response>" for t in ("one", "two", "three"))
    assert without_tools(messages, None) == [
        user(),
        {"role": "assistant", "content": f"Let me see.\n{f}\n{g}"},
        user(f"{one}\n{two}"),
        {"role": "assistant", "content": write_call("f", "{}")},
        user(three),
    ]


@given(calls=calls_of)
def test_what_history_shows_is_what_is_read(calls: list[tuple[str, Any]]) -> None:
    """The form that the model sees is the form its calls are parsed from."""
    texts = [(name, json.dumps(arguments)) for name, arguments in calls]
    [message] = without_tools([called("", *texts)], None)
    parser = ToolCallParser()
    parser.feed(str(message["content"]))
    assert parser.num_calls == len(calls)


LITERALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
spelled = st.lists(st.sampled_from([*LITERALS, "<|im_", "end|>", "<", '"', "a", " "]), max_size=4)
hostile = spelled.map("".join)


@pytest.mark.parametrize("source", [HERMES, SMOLLM2], ids=["hermes", "smollm2"])
@draws(20, 100)
@given(said=hostile, argument=hostile, returned=hostile, described=hostile)
def test_literals_in_tools_calls_and_results_are_text(
    source: str, said: str, argument: str, returned: str, described: str
) -> None:
    """Special ids come from the template alone: as many as with harmless words, in that order."""

    def specials(*words: str) -> list[int]:
        template = template_of(source)
        tools = [Tool("f", words[3], {"properties": {words[3]: {"type": "string"}}}).definition]
        call = called(words[0], ("f", json.dumps({words[1]: words[1]})))
        fitted, shown = fit([user(words[0]), call, result(words[2])], tools, template)
        ids = template.encode(fitted, tools=shown)
        shown_text = b"".join(map(TOKENIZER.token_bytes, ids)).decode()
        assert words[2] in shown_text
        return [i for i in ids if i > 255]

    assert specials(said, argument, returned, described) == specials("a", "b", "c", "d")
