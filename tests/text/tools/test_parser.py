"""Tool calls in a stream: the same whatever the cuts, as the twin finds them, and nothing lost."""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.oracles.tool_calls import Whole, parse_whole
from thirdeye.server.text.events import ToolCallDelta
from thirdeye.server.text.tools.call_parser import Piece, ToolCallParser
from thirdeye.server.text.tools.form import CLOSE, OPEN, write_call

CALL = write_call("get_weather", '{"city": "Paris"}')


def pieces_of(text: str, cuts: list[int] | None = None) -> list[Piece]:
    parser, pieces = ToolCallParser(), []
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts or []}), len(text)]
    for start, end in pairwise(places):
        pieces += parser.feed(text[start:end])
    pieces += parser.flush()
    assert parser.num_held == 0
    return pieces


def joined(pieces: list[Piece]) -> Whole:
    """What a client puts together, and that the deltas come in order: name first, then pieces."""
    content, calls = "", []
    for piece in pieces:
        if isinstance(piece, str):
            content += piece
        elif piece.name is not None:
            assert piece == ToolCallDelta(len(calls), piece.name)
            calls.append((piece.name, ""))
        else:
            assert piece.index == len(calls) - 1
            assert piece.arguments
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    return Whole(content, calls)


# Text that is nearly, or really, made of calls: bits of the form in any order, calls among them.
bits = st.sampled_from(
    [
        *[OPEN, CLOSE, "<", "<tool", "_call>", "</tool", ">", "\n", " ", "{", "}", '"', "\\", ","],
        *['{"name": "f", "arguments": ', '{"name":"g","arguments":{', '"name"', ":", "é", "[1]"],
        *[CALL, CALL + "\n", write_call("f", "{}"), '{"a": "}\\"{"}', OPEN + '\n{"name": "f-1", '],
    ]
)
texts = st.lists(bits, max_size=14).map("".join)


@given(text=texts, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(text=f'{OPEN}{{"name":"f","arguments":{{}}<tool_call>', cuts=[])
@example(text=f'{OPEN}{{"name":"f","arguments":{{}}}}<{CALL}', cuts=[40])
@example(text=f"<{CALL}", cuts=[1])
@example(text=f'{OPEN}{{"name":"f","arguments":{{}}}}{CALL}', cuts=[40])
@example(text=write_call("f", '{"a": "b\\\\", "}": "\\""}') + "}", cuts=[])
def test_any_cut_gives_what_the_twin_finds(text: str, cuts: list[int]) -> None:
    """Promise 5: however the tokens fall, content and calls are those of the whole text."""
    assert joined(pieces_of(text, cuts)) == parse_whole(text)
    assert joined(pieces_of(text, list(range(len(text))))) == parse_whole(text)


names = st.text("abcXYZ019_-", min_size=1, max_size=64)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=4), values, max_size=3)


@given(
    content=st.text(max_size=20),
    calls=st.lists(st.tuples(names, arguments, st.booleans()), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1000), max_size=12),
)
def test_what_is_written_is_read(
    content: str, calls: list[tuple[str, dict[str, object], bool]], cuts: list[int]
) -> None:
    """Any arguments at all, escapes and braces in strings too, come back as they were."""
    texts = [(name, json.dumps(value, ensure_ascii=ascii)) for name, value, ascii in calls]
    answer = content + "\n".join(write_call(name, text) for name, text in texts)
    assert joined(pieces_of(answer, cuts)) == Whole(content, texts)


def test_deltas_come_as_openai_streams_them() -> None:
    """The name alone first, then the arguments as they are written; nothing waits for the end."""
    parser = ToolCallParser()
    assert parser.feed('Let me see.\n<tool_call>\n{"name": "f", "arg') == ["Let me see.\n"]
    assert parser.feed('uments": {"ci') == [
        ToolCallDelta(0, name="f"),
        ToolCallDelta(0, arguments="{"),
        ToolCallDelta(0, arguments='"ci'),
    ]
    assert parser.feed('ty": "P"}}') == [ToolCallDelta(0, arguments='ty": "P"}')]
    assert parser.feed("\n</tool_call>\n<tool") == []
    assert parser.feed('_call>{"name":"g","arguments":{}') == [
        ToolCallDelta(1, name="g"),
        ToolCallDelta(1, arguments="{"),
        ToolCallDelta(1, arguments="}"),
    ]
    assert parser.flush() == []
    assert parser.num_calls == 2


@pytest.mark.parametrize(
    "text",
    [
        "no call at all, 1 < 2",
        "<tool_cal",
        OPEN,
        f'{OPEN}\n{{"name": "f", "argum',
        f'{OPEN}{{"arguments": {{}}, "name": "f"}}{CLOSE}',
        f'{OPEN}{{"name": "not a name", "arguments": {{}}}}{CLOSE}',
        f'{OPEN}{{"name": "{"x" * 129}", "arguments": {{}}}}{CLOSE}',
        f'{OPEN}{{"name": "", "arguments": {{}}}}{CLOSE}',
        f'{OPEN}{{"name": "f", "arguments": "{{}}"}}{CLOSE}',
        f"{OPEN} {OPEN} {CLOSE}",
    ],
)
def test_a_broken_call_is_content(text: str) -> None:
    """It comes out to the last character: silence would hide that the model failed."""
    assert joined(pieces_of(text)) == Whole(text, [])


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (CALL[: CALL.index("Paris")], '{"city": "'),
        (CALL[: CALL.index("\n</")], '{"city": "Paris"}'),
        (CALL[:-3], '{"city": "Paris"}'),
        (CALL + "\n", '{"city": "Paris"}'),
    ],
)
def test_a_call_that_is_cut_short_keeps_what_it_has(text: str, arguments: str) -> None:
    """`length` may end an answer anywhere; the end of a frame is no content."""
    assert joined(pieces_of(text)) == Whole("", [("get_weather", arguments)])


def test_text_behind_a_call_is_content() -> None:
    """A model that talks on is heard, and may call again."""
    found = joined(pieces_of(f"{CALL}\nDone. {CALL}\n{OPEN}?"))
    arguments = '{"city": "Paris"}'
    assert found == Whole(f"\nDone. \n{OPEN}?", [("get_weather", arguments)] * 2)


@pytest.mark.parametrize("bit", ["<", OPEN, OPEN + " ", CALL[:20], "{", CALL, CALL + "<"])
def test_hostile_text_costs_linear_time(bit: str) -> None:
    """Ten times the text looks at ten times the characters, in one piece or in a thousand."""

    class Counting(str):
        looks = 0

        def __getitem__(self, key):
            Counting.looks += 1 if isinstance(key, int) else len(range(*key.indices(len(self))))
            return super().__getitem__(key)

    def looks_at(repeats: int) -> int:
        Counting.looks = 0
        parser = ToolCallParser()
        parser.feed(Counting(bit * repeats))
        return Counting.looks

    assert looks_at(1000) <= 10.5 * looks_at(100)
