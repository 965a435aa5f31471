"""The grammar of an answer with tools: what it lets a model write, and nothing else."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.oracles.tool_calls import parse_whole
from tests.text.byte_grammar import accepts, follower
from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.grammar.bitmask import empty_masks
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler, LLGuidanceMatcher
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.tools.call_grammar import ToolGrammarError, tool_grammar
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolChoice, ToolUse
from thirdeye.server.text.tools.form import CLOSE, OPEN, TAGS, encode_with_tags, write_call

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "The weather", CITY)
TIME = Tool("get-time")
PARIS = write_call("get_weather", '{"city": "Paris"}')
NOW = write_call("get-time", "{}")

AUTO, REQUIRED = ToolChoice(ChoiceMode.AUTO), ToolChoice(ChoiceMode.REQUIRED)
NAMED = ToolChoice(ChoiceMode.NAMED, "get_weather")


def use(choice: ToolChoice, **changes: Any) -> ToolUse:
    return ToolUse([WEATHER, TIME], choice, **changes)


BROKEN = [
    "",
    "Hello",
    OPEN,
    PARIS[:-1],
    PARIS + "\n",
    PARIS + " and more",
    PARIS.replace("Paris", '"'),
    PARIS.replace('"city"', '"town"'),
    PARIS.replace("get_weather", "get_rain"),
    write_call("get_weather", "{}"),
    write_call("get_weather", '"Paris"'),
]


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize("choice", [REQUIRED, NAMED], ids=["required", "named"])
def test_required_is_calls_and_nothing_else(choice: ToolChoice, is_parallel: bool) -> None:
    """The arguments of a call that ended always parse, and fit their schema."""
    serialized = tool_grammar(use(choice, is_parallel=is_parallel))
    assert accepts(serialized, PARIS)
    assert accepts(serialized, NOW) is (choice is REQUIRED)
    several = choice is REQUIRED and is_parallel
    assert accepts(serialized, f"{PARIS}\n{NOW}\n{PARIS}") is several
    for text in [*BROKEN, f"Sure: {PARIS}"]:
        assert not accepts(serialized, text), text


@pytest.mark.parametrize("is_parallel", [True, False])
def test_auto_is_free_up_to_the_first_tag(is_parallel: bool) -> None:
    """Any text at all, unless it begins a call: then a call it is."""
    serialized = tool_grammar(use(AUTO, is_parallel=is_parallel))
    for text in ["", "Hello", "1 < 2 <tool", "<tool_calls>\n\té", CLOSE, PARIS, f"Sure.\n{PARIS}"]:
        assert accepts(serialized, text), text
    assert accepts(serialized, f"{PARIS}\n{NOW}") is is_parallel
    for text in [text for text in BROKEN if OPEN in text]:
        assert not accepts(serialized, text), text
        assert not accepts(serialized, f"Sure. {text}"), text


def test_none_holds_nothing() -> None:
    assert tool_grammar(use(ToolChoice(ChoiceMode.NONE))) == ""
    assert tool_grammar(use(ToolChoice(ChoiceMode.NONE)), content="x") == "x"


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        (grammar.json_schema(CITY), '{"city": "Rome"}', '{"town": "Rome"}'),
        (grammar.json_object(), '{"a": [1]}', "a"),
        (grammar.regex("[ab]+"), "abba", "abc"),
        (grammar.choice(["yes", "no"]), "no", "maybe"),
        (grammar.lark('start: "a" B\nB: /b+/'), "abb", "ba"),
    ],
    ids=["json_schema", "json_object", "regex", "choice", "lark"],
)
def test_a_response_format_holds_the_content(content: str, good: str, bad: str) -> None:
    """Under auto an answer is content in its format, or calls; required calls know no content."""
    auto = tool_grammar(use(AUTO), content=content)
    assert accepts(auto, good)
    assert accepts(auto, f"{PARIS}\n{NOW}")
    assert not accepts(auto, bad)
    assert not accepts(auto, f"{good}{PARIS}")
    required = tool_grammar(use(REQUIRED), content=content)
    assert accepts(required, PARIS)
    assert not accepts(required, good)


def test_a_tag_may_be_a_token() -> None:
    """Where the vocabulary has the tags as tokens, a call is written with them, not spelled."""
    tokenizer = ByteTokenizer(["<s>", "</s>", *TAGS], bos=None, eos=["</s>"])
    tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    guidance = LLGuidanceCompiler(
        tokens,
        special_token_ids=[256, 257],
        eos_token_ids=[257],
        encode=lambda text: encode_with_tags(text, tokenizer),
    )
    opening, closing = 258, 259
    paris = encode_with_tags(PARIS, tokenizer)
    assert [paris[0], paris[-1]] == [opening, closing]
    for choice, before in [(AUTO, b"Sure "), (AUTO, b""), (NAMED, b"")]:
        matcher = guidance.compile(tool_grammar(use(choice)))
        matcher.follow([*before, *paris])
        assert matcher.is_over is (choice is NAMED)
        matcher.follow([*before, opening])
        assert allowed(matcher) == {ord("\n")}
    matcher = guidance.compile(tool_grammar(use(NAMED)))
    assert allowed(matcher) == {opening}  # what must come, as the tokenizer cuts it


def allowed(matcher: LLGuidanceMatcher) -> set[int]:
    (mask,) = empty_masks(1, 320)  # more than the vocabulary has
    matcher.fill(mask)
    return {i for i in range(320) if mask[i // 32] >> (i % 32) & 1}


def test_the_first_bad_schema_is_named() -> None:
    """By its place among the tools, and where in it the fault is; also one that is not called."""
    bad = {"properties": {"n": {"type": "integer", "multipleOf": "x"}}}
    worse = Tool("g", None, {"required": 3}, strict=True)
    tools = [WEATHER, Tool("f", None, bad, strict=True), worse]
    with pytest.raises(ToolGrammarError) as caught:
        tool_grammar(ToolUse(tools, NAMED))
    assert caught.value.index == 1
    assert caught.value.path.startswith("$.properties.n")


# Random answers, a byte at a time, of those that the grammar allows: they are what they should be.


@draws(10, 30)
@given(seed=st.integers(0, 2**32), is_parallel=st.booleans())
def test_whatever_is_written_parses_and_validates(seed: int, is_parallel: bool) -> None:
    """The promise behind required: no draw, however bad, breaks a call."""
    import random

    drawn = random.Random(seed)
    schemas = [
        CITY,
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 0, "maximum": 99},
                "kind": {"enum": ["a}", 'b"', "c\\"]},
                "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
            },
            "required": ["n", "kind"],
            "additionalProperties": False,
        },
        {"type": "object", "properties": {}, "additionalProperties": False},
    ]
    tools = [Tool(f"f{i}", None, schema) for i, schema in enumerate(schemas)]
    matcher = follower(tool_grammar(ToolUse(tools, REQUIRED, is_parallel)))
    raw: list[int] = []
    for _ in range(3000):
        mask = matcher.compute_bitmask()
        allowed = [i for i in range(256) if mask[i // 8] >> (i % 8) & 1]
        ends = [byte for byte in b'"}]' if byte in allowed]
        is_over = matcher.is_accepting() and (not allowed or drawn.random() < 0.5)
        if is_over:
            break
        byte = drawn.choice(ends) if ends and drawn.random() < 0.3 else drawn.choice(allowed)
        assert matcher.consume_token(byte)
        raw.append(byte)
    else:
        return  # it never ended, as `length` would tell
    whole = parse_whole(bytes(raw).decode())
    assert whole.content == ""
    assert len(whole.calls) == 1 if not is_parallel else whole.calls
    for name, arguments in whole.calls:
        jsonschema.validate(json.loads(arguments), schemas[int(name[1:])])
