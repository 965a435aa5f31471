"""A message that spells a special token is text: the template's own special ids, and no others."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from tests.draws import draws
from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.templates.chat_templates import HOSTILE, LLAMA3, LLAMA3_SPECIALS, SMOLLM2, TOOLS
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.templates.sandbox import TemplateSandbox
from thirdeye.server.text.templates.special_tokens import MARK, SpecialTokens

# Literals that overlap with themselves and each other, contain each other, and are found in words.
ODD = ("<|im_start|>", "<|im_end|>", "aba", "bac", "<|im_end|>>", "<| x |>", "<|user|>", "§")
TOKENIZER = ByteTokenizer(ODD, bos=None, eos=["<|im_end|>"])
SOURCES = {"smollm2": SMOLLM2, "tools": TOOLS, "hostile": HOSTILE}
TEMPLATES = {name: ChatTemplate(source, TOKENIZER) for name, source in SOURCES.items()}

FRAGMENTS = [
    *[
        "<",
        "|",
        ">",
        "<|",
        "|>",
        "<|im",
        "<|im_",
        "im_",
        "im_end",
        "_end|>",
        "end|>",
        "d|>",
        "<|im_e",
    ],
    *[
        "a",
        "b",
        "ab",
        "ba",
        "c",
        "aba",
        "bac",
        "ababa",
        "<|im_end|>",
        "<|im_start|>",
        "<|im_end|>>",
    ],
    *[" ", "\n", "<| ", " x ", " |>", "x |>", "user", "<|user|>", "é🎉", "hello", "§", MARK],
]
hostile_text = st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join)


def special_ids(ids: list[int], tokenizer: ByteTokenizer = TOKENIZER) -> list[int]:
    return [i for i in ids if i in tokenizer.special_tokens.values()]


def text_of(ids: list[int], tokenizer: ByteTokenizer = TOKENIZER) -> str:
    return b"".join(map(tokenizer.token_bytes, ids)).decode()


def harmless(value: Any) -> Any:
    """The same data with every string replaced by z's; what was empty or absent stays so."""
    if isinstance(value, str):
        return "z" * len(value.replace(MARK, "").strip()) or value
    if isinstance(value, list):
        return [harmless(item) for item in value]
    if isinstance(value, dict):
        same = ("role", "type")
        return {k: v if k in same else harmless(v) for k, v in value.items()}
    return value


def plain(source: str, **variables: Any) -> str:
    """The template without any marking, by Jinja itself."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True)  # no HTML here
    environment.filters["tojson"] = TOJSON
    return environment.from_string(source).render(tools=None, **variables)


TOJSON = TemplateSandbox().filters["tojson"]
roles = st.sampled_from(["user", "system", "assistant", "tool"])
messages_of = st.lists(
    st.fixed_dictionaries({"role": roles, "content": hostile_text, "name": hostile_text}),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("name", SOURCES)
@draws(20, 200)
@given(messages=messages_of)
def test_no_message_makes_a_special_token(name: str, messages: list[dict[str, Any]]) -> None:
    """Nor do two of them side by side, nor one of them and the template's own text."""
    template = TEMPLATES[name]
    ids = template.encode(messages)
    assert special_ids(ids) == special_ids(template.encode(harmless(messages)))
    without_mark = [{k: v.replace(MARK, "") for k, v in m.items()} for m in messages]
    whole = plain(SOURCES[name], messages=without_mark, add_generation_prompt=True)
    assert text_of(ids) == whole == template.render(messages)


@draws(40, 200)
@given(
    content=hostile_text,
    tool=st.fixed_dictionaries({"name": hostile_text, "description": hostile_text}),
    arguments=st.dictionaries(hostile_text.filter(lambda k: not k.isidentifier()), hostile_text),
)
def test_tools_and_their_arguments_make_no_special_token(
    content: str, tool: dict[str, str], arguments: dict[str, str]
) -> None:
    template = TEMPLATES["tools"]
    tools = [{"type": "function", "function": tool}]
    calls = [{"type": "function", "function": {"name": tool["name"], "arguments": arguments}}]
    messages = [{"role": "assistant", "content": content, "tool_calls": calls}]
    ids = template.encode(messages, tools=tools)
    clean = template.encode(harmless(messages), tools=harmless(tools))
    assert special_ids(ids) == special_ids(clean)
    assert text_of(ids) == template.render(messages, tools=tools)


LLAMA = ByteTokenizer(LLAMA3_SPECIALS, bos=LLAMA3_SPECIALS[0], eos=[LLAMA3_SPECIALS[4]])


@pytest.mark.parametrize("literal", LLAMA3_SPECIALS)
def test_each_special_in_one_piece_and_in_any_two(literal: str) -> None:
    """Every literal x every split over two messages' fields and over the end of a message."""
    template = ChatTemplate(LLAMA3 + "{{ messages[0].content }}{{ messages[-1].content }}", LLAMA)
    clean = [{"role": "user", "content": "z"}, {"role": "user", "content": "z"}]
    expected = special_ids(template.encode(clean), LLAMA)
    for cut in range(len(literal) + 1):
        parts = [literal[:cut], literal[cut:]]
        messages = [{"role": "user", "content": part} for part in parts]
        assert special_ids(template.encode(messages), LLAMA) == expected


FIELDS = ["content", "name", "tool name", "tool argument", "argument name", "tool result", "schema"]


@pytest.mark.parametrize(("literal", "field"), [*product(["<|im_start|>", "<|im_end|>"], FIELDS)])
def test_injection_table(literal: str, field: str) -> None:
    """Every special x every field a caller can fill, whole and beside its other half."""
    template = TEMPLATES["tools"]
    text = dict.fromkeys(FIELDS, "z")
    messages, tools = table_row(text)
    expected = special_ids(template.encode(messages, tools=tools))
    for evil in (literal, f"a{literal}b", literal * 2, literal[:4], literal[4:]):
        messages, tools = table_row(text | {field: evil})
        ids = template.encode(messages, tools=tools)
        assert special_ids(ids) == expected
        assert evil in text_of(ids)


def table_row(text: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation and its tools, with `text` in the fields."""
    arguments = {text["argument name"]: text["tool argument"]}
    call = {"type": "function", "function": {"name": text["tool name"], "arguments": arguments}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": text["content"], "name": text["name"]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": text["tool result"]},
    ]
    function = {"name": "f", "description": text["schema"], "parameters": {text["schema"]: {}}}
    return messages, [{"type": "function", "function": function}]


@given(st.text("abc <|>_éxyz\n", max_size=30))
def test_ordinary_text_is_not_touched(text: str) -> None:
    """Its tokens must be those of the plain rendering, and templates may compare and trim it."""
    core = text.strip()
    if not core.startswith((">", "|>")) and not core.endswith(("<", "<|")) and len(core) > 9:
        message = {"role": "user", "content": text}
        assert SpecialTokens(ByteTokenizer()).mark(message) == message


def test_marks_do_not_change_the_callers_data() -> None:
    messages = [{"role": "user", "content": "<|im_end|>", "tool_calls": [{"a": ("<", 1, None)}]}]
    before = repr(messages)
    marked = SpecialTokens(ByteTokenizer()).mark(messages)
    assert repr(messages) == before
    assert marked != messages


def test_marks_stand_inside_of_the_whitespace() -> None:
    """So that a template that trims still trims."""
    marked = SpecialTokens(ByteTokenizer()).mark("  end|>  <|im_  ")
    assert marked.strip() == f"{MARK}end|>  <|im_{MARK}"


def test_names_of_the_protocol_are_left_alone() -> None:
    """`<|user|>` is a special token here, and templates look for `user`."""
    specials = SpecialTokens(TOKENIZER)
    assert specials.mark({"role": "user", "user": 1}) == {"role": "user", "user": 1}
    assert specials.mark({"content": "user"}) == {"content": f"{MARK}user"}


def test_a_literal_of_one_character_is_text() -> None:
    template = ChatTemplate(SMOLLM2, TOKENIZER)
    ids = template.encode([{"role": "user", "content": "§"}])
    assert TOKENIZER.special_tokens["§"] not in ids
    assert "§" in text_of(ids)


def test_a_tokenizer_without_special_tokens() -> None:
    tokenizer = ByteTokenizer((), bos=None, eos=())
    template = ChatTemplate(SMOLLM2, tokenizer)
    messages = [{"role": "system", "content": "x"}]
    assert text_of(template.encode(messages), tokenizer) == template.render(messages)


def test_of_two_literals_the_longer_one_is_found() -> None:
    template = ChatTemplate("<|im_end|>>{{ messages[0].content }}<|im_end|>", TOKENIZER)
    ids = template.encode([{"role": "user", "content": "x"}])
    literals = ("<|im_end|>>", "<|im_end|>")
    assert special_ids(ids) == [TOKENIZER.special_tokens[literal] for literal in literals]
