"""Thoughts and content of an answer: any cut of its text gives what the whole text says."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.interface.types import FinishReason, StepOutput
from thirdeye.server.text.answer_reader import make_reader
from thirdeye.server.text.events import Piece, Thought
from thirdeye.server.text.reasoning.reasoning_form import (
    HARMONY,
    REASONING_FORMS,
    PromptState,
    ReasoningForm,
    find_reasoning_form,
)
from thirdeye.server.text.text_stream import TextOptions, TextStream

PAIRS = [form for form in REASONING_FORMS.values() if form is not HARMONY]
THINK = REASONING_FORMS["think"]


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(min(p, len(text)) for p in places), len(text)]
    return [text[a:b] for a, b in pairwise(ends)]


def read(form: ReasoningForm, state: PromptState, texts: list[str]) -> list[Piece]:
    reader = make_reader(form, state, parse_tool_calls=form is HARMONY)
    assert reader is not None
    return [*(p for text in texts for p in reader.feed(text)), *reader.flush()]


def joined(pieces: list[Piece]) -> tuple[str, str, list[tuple[str, str]]]:
    """Thought, content, calls."""
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if not isinstance(piece, str | Thought):
            if piece.name is not None:
                calls.append((piece.name, ""))
            name, arguments = calls[piece.index]
            calls[piece.index] = name, arguments + piece.arguments
    thought = "".join(p.text for p in pieces if isinstance(p, Thought))
    return thought, "".join(p for p in pieces if isinstance(p, str)), calls


def oracle(form: ReasoningForm, state: PromptState, text: str) -> tuple[str, str]:
    """From the whole text, by a pattern."""
    begin, end = re.escape(form.open.rstrip()), re.escape(form.close)
    begun = "" if state is PromptState.OPEN else rf"\s*{begin}"
    found = re.match(rf"(?s){begun}(.*?)(?:{end}\s*(.*))?\Z", text)
    if found is None or state is PromptState.CLOSED:
        return "", without_marks(form, text)
    return found[1].strip(), without_marks(form, found[2] or "")


def without_marks(form: ReasoningForm, answer: str) -> str:
    if form.around is None:
        return answer
    begin, end = map(re.escape, form.around)
    found = re.match(rf"(?s)\s*{begin}(.*?)(?:{end}(.*))?\Z", answer)
    return answer if found is None else found[1] + (found[2] or "")


def fragments(form: ReasoningForm) -> st.SearchStrategy[str]:
    marks = [form.open.rstrip(), form.close, form.close[:-1], form.open[:3], form.close[:2]]
    marks += [*form.around, form.around[1][:4]] if form.around else []
    return st.lists(st.sampled_from([*marks, "a", " ", "\n", "é", "<", "["]), max_size=9).map(
        "".join
    )


@pytest.mark.parametrize("state", PromptState)
@pytest.mark.parametrize("form", PAIRS, ids=lambda form: form.name)
@draws(12, 100)
@given(data=st.data())
def test_any_cut_says_what_the_whole_says(
    form: ReasoningForm, state: PromptState, data: st.DataObject
) -> None:
    opening = data.draw(st.sampled_from(["", form.open, "\n" + form.open]))
    text = opening + data.draw(fragments(form))
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    thought, content, _ = joined(read(form, state, cut(text, places)))
    assert (thought, content) == oracle(form, state, text)


ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
HARMONY_ANSWERS = {
    ANALYSIS + "Let me see." + NEXT + FINAL + "Hello!": ("Let me see.", "Hello!", []),
    FINAL + "Hello!<|return|>": ("", "Hello!", []),
    ANALYSIS + "a<b" + NEXT + CALL + '{"a": "<|"}<|call|>': ("a<b", "", [("f", '{"a": "<|"}')]),
    CALL + "{}" + "<|call|><|start|>assistant" + CALL + '{"b": 1}': (
        *("", ""),
        [("f", "{}"), ("f", '{"b": 1}')],
    ),
    "<|channel|>commentary<|message|>I look." + NEXT + CALL + "{}": ("", "I look.", [("f", "{}")]),
    "<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{}": (
        *("", ""),
        [("g", "{}")],
    ),
    ANALYSIS + "cut": ("cut", "", []),
    ANALYSIS + "a" + NEXT + "<|channel|>fin": ("a", "", []),
    "Plain <|text": ("", "Plain <|text", []),
    "": ("", "", []),
}


@pytest.mark.parametrize("text", HARMONY_ANSWERS)
@draws(10, 100)
@given(data=st.data())
def test_any_cut_of_channels_says_what_the_whole_says(text: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    found = joined(read(HARMONY, PromptState.UNDECIDED, cut(text, places)))
    assert found == HARMONY_ANSWERS[text]


def test_a_prompt_may_end_in_a_channel() -> None:
    pieces = read(HARMONY, PromptState.OPEN, ["think", NEXT + FINAL, "Hi"])
    assert joined(pieces) == ("think", "Hi", [])


# --- found from the template and the vocabulary --------------------------------------------------

BYTES = ByteTokenizer()
WITH_TOKENS = ByteTokenizer(["<|im_start|>", "<|im_end|>", "<think>", "</think>"])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ '<|channel|>analysis<|message|>' }}", "harmony"),
        ("{{ '<|channel>thought\n' }}", "gemma4"),
        ("[THINK]{{ x }}[/THINK]", "mistral"),
        ("<seed:think>", "seed"),
        ("Write 'Here is my thought process:' first", "granite"),
        ("{{ content.split('</think>')[-1] }}", "think"),
        ("Think between <think></think>, answer between <response></response>", "granite33"),
        ("{{ message.content }}", None),
    ],
)
def test_the_template_tells_the_form(source: str, name: str | None) -> None:
    form = find_reasoning_form(source, BYTES)
    assert (form.name if form else None) == name


def test_a_vocabulary_with_both_marks_tells_it_too() -> None:
    assert find_reasoning_form("{{ message.content }}", WITH_TOKENS) is THINK


@pytest.mark.parametrize(
    ("prompt", "state"),
    [
        ("<|im_start|>assistant\n", PromptState.UNDECIDED),
        ("<|im_start|>assistant\n<think>\n", PromptState.OPEN),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", PromptState.CLOSED),
        ("<think>old</think>\n\nHi<|im_end|><|im_start|>", PromptState.UNDECIDED),
    ],
)
@pytest.mark.parametrize("tokenizer", [BYTES, WITH_TOKENS], ids=["letters", "tokens"])
def test_the_prompts_end_tells_where_the_answer_begins(
    prompt: str, state: PromptState, tokenizer: ByteTokenizer
) -> None:
    assert THINK.state_after(tokenizer.encode_with_special(prompt), tokenizer) is state


# --- in a stream of tokens -----------------------------------------------------------------------

EOS = WITH_TOKENS.special_tokens["<|im_end|>"]
ids = WITH_TOKENS.encode_with_special


def outputs(token_ids: list[int], places: list[int]) -> list[StepOutput]:
    ends = [0, *sorted(min(p, len(token_ids)) for p in places), len(token_ids)]
    pieces = [token_ids[a:b] for a, b in pairwise(ends)]
    last = StepOutput(request_id="r", token_ids=pieces[-1], finish_reason=FinishReason.STOP)
    return [*(StepOutput(request_id="r", token_ids=piece) for piece in pieces[:-1]), last]


@pytest.mark.parametrize("lists_tokens", [True, False])
@draws(15, 100)
@given(places=st.lists(st.integers(0, 40), max_size=12), shows=st.booleans())
def test_a_stream_counts_and_lists_the_tokens_of_thoughts_apart(
    lists_tokens: bool, places: list[int], shows: bool
) -> None:
    """A stop string in the thinking stops nothing, and least lengths begin behind it."""
    thinking, answer = ids("<think>\nSTOP é\n</think>"), ids("\n\nab STOP c STOP")
    options = TextOptions(
        stop=["STOP"],
        min_tokens=len(ids("\n\nab STOP")),
        reasoning=THINK,
        shows_thoughts=shows,
        list_tokens=lists_tokens,
    )
    stream = TextStream(WITH_TOKENS, options, frozenset({EOS}))
    events = []
    for output in outputs([*thinking, *answer, *ids(" more"), EOS], places):
        event = stream.feed(output)
        events += [event] if event else []
        if stream.is_finished:
            break
    assert "".join(event.thought for event in events) == ("STOP é" if shows else "")
    assert "".join(event.text for event in events) == "ab STOP c "
    assert events[-1].num_thought_tokens == len(thinking)
    assert events[-1].num_generated_tokens == len(thinking) + len(answer)
    listed = [token for event in events for token in event.tokens]
    if lists_tokens:
        assert [token.token_id for token in listed] == [*thinking, *answer]
        assert [token.is_thought for token in listed] == [True] * len(thinking) + [False] * len(
            answer
        )
    else:
        assert listed == []


def test_behind_the_thinking_a_stream_is_as_plain_as_any() -> None:
    options = TextOptions(reasoning=THINK, list_tokens=False)
    stream = TextStream(WITH_TOKENS, options, frozenset({EOS}))
    events = [
        stream.feed(o) for o in outputs([*ids("<think>a</think>b"), *b"cd", EOS], [*range(30)])
    ]
    assert [(e.thought, e.text) for e in events if e and (e.thought or e.text)] == [
        *(("a", ""), ("", "b"), ("", "c"), ("", "d"))
    ]
    assert events[-1] is not None
    assert events[-1].num_thought_tokens == 3


CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
CALLING = ByteTokenizer(
    ["<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"], bos=None
)


@pytest.mark.parametrize("between", ["", "</think>", "\n\n", "\n</think>\n"])
@draws(12, 100)
@given(places=st.lists(st.integers(0, 90), max_size=12))
def test_a_call_ends_thinking_that_was_not_closed(between: str, places: list[int]) -> None:
    """The token does: spelled in letters, as somebody writes who thinks about calls, it is text."""
    encode, call_id = CALLING.encode_with_special, CALLING.special_tokens["<tool_call>"]
    options = TextOptions(reasoning=THINK, parse_tool_calls=True, call_id=call_id)
    thinking = [*encode("<think>"), *b"I need f: <tool_call>.", *encode(between)]
    stream = TextStream(CALLING, options, frozenset({CALLING.special_tokens["<|im_end|>"]}))
    events = [stream.feed(o) for o in outputs([*thinking, *encode(CALL)], places)]
    told = [event for event in events if event]
    calls = [call for event in told for call in event.tool_calls]
    assert "".join(event.thought for event in told) == "I need f: <tool_call>."
    assert "".join(event.text for event in told).strip() == ""
    assert [call.name for call in calls if call.name] == ["f"]
    assert "".join(call.arguments for call in calls) == '{"a": 1}'
    assert told[-1].num_thought_tokens == len(thinking) - between.endswith(">\n")
    assert told[-1].ended_in_tool_calls
