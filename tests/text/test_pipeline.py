"""Token ids to events: joined stream = whole text, each token listed once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.text.answers import (
    EOS,
    IM_START,
    TOKENIZER,
    answers,
    decode,
    ids_of,
    options_of,
    oracle,
    output,
    run,
    split_into_outputs,
    text_of,
    visible,
)
from thirdeye.server.engine.interface.types import (
    FinishReason,
    Timings,
    TokenLogprobs,
)
from thirdeye.server.text.events import TextEvent, TextToken
from thirdeye.server.text.text_stream import TextOptions, TextStream


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12))
def test_any_split_of_the_tokens_gives_the_text_of_the_whole(
    ids: list[int], options: TextOptions, places: list[int]
) -> None:
    events = run(split_into_outputs(ids, places), options)
    text, tokens, matched = oracle(ids, options)
    assert text_of(events) == text
    assert ids_of(events) == tokens
    assert events[-1].stop_reason == matched
    assert events[-1].finish_reason is (FinishReason.STOP if matched else FinishReason.LENGTH)
    assert events[-1].num_generated_tokens == len(tokens)
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12))
def test_a_token_comes_with_the_event_that_sends_the_last_of_its_text(
    ids: list[int], options: TextOptions, places: list[int]
) -> None:
    """Not earlier, and not later."""
    events = run(split_into_outputs(ids, places), options)
    raws = visible(ids, options)
    needs = [len(decode(b"".join(raws[: n + 1]))) for n in range(len(ids))]
    sent = listed = 0
    for event in events[:-1]:
        sent += len(event.text)
        listed += len(event.tokens)
        assert listed == sum(need <= sent for need in needs[: event.num_generated_tokens])
        assert event.text or event.tokens, "an event says something"


# --- single promises -----------------------------------------------------------------------------


def test_tokens_of_a_character_spread_over_four_tokens_come_with_it() -> None:
    stream = TextStream(TOKENIZER, TextOptions())
    raw = "🎉".encode()
    assert [stream.feed(output(b)) for b in raw[:3]] == [None] * 3
    event = stream.feed(output(raw[3]))
    assert event is not None
    assert (event.text, ids_of([event])) == ("🎉", list(raw))


@pytest.mark.parametrize(
    ("stop", "text", "matched"),
    [("\ufffd", "a", "\ufffd"), ("a\ufffd", "", "a\ufffd"), ("ab", "a\ufffd", None)],
)
def test_a_character_cut_short_by_the_end_is_searched_too(
    stop: str, text: str, matched: str | None
) -> None:
    raw = "a🎉".encode()[:-1]
    events = run([output(*raw, finish=FinishReason.LENGTH)], TextOptions(stop=[stop]))
    assert (text_of(events), events[-1].stop_reason) == (text, matched)
    assert bytes(ids_of(events)) == raw


def test_tokens_held_back_for_a_stop_come_when_it_is_none() -> None:
    stream = TextStream(TOKENIZER, TextOptions(stop=["abc"]))
    assert stream.feed(output(*b"a")) is None
    assert stream.feed(output(*b"b")) is None
    event = stream.feed(output(*b"x"))
    assert event is not None
    assert (event.text, ids_of([event])) == ("abx", [*b"abx"])


def test_the_stop_never_leaks_and_tokens_behind_it_are_dropped() -> None:
    events = run([output(*b"hi ST"), output(*b"OP and more")], TextOptions(stop=["STOP"]))
    assert text_of(events) == "hi "
    assert bytes(ids_of(events)) == b"hi STOP"
    assert events[-1].num_generated_tokens == 7
    assert (events[-1].finish_reason, events[-1].stop_reason) == (FinishReason.STOP, "STOP")


def test_end_of_sequence_is_listed_but_is_no_text() -> None:
    (event,) = run([output(*b"hi", EOS, finish=FinishReason.STOP)], TextOptions(stop=["x"]))
    assert event.text == "hi"
    assert event.tokens[-1] == TextToken(EOS, None)
    assert event.stop_reason is None
    assert event.num_generated_tokens == 3


def test_a_stop_token_id_is_hidden_and_named() -> None:
    last = output(*b"a\n", finish=FinishReason.STOP, stop_token_id=10)
    (event,) = run([last], TextOptions(), hidden=frozenset({10}))
    assert (event.text, event.stop_reason) == ("a", 10)
    assert event.tokens == [TextToken(97, b"a"), TextToken(10, None)]


@pytest.mark.parametrize(
    ("skip", "text", "raw"), [(True, "ab", None), (False, "a<|im_start|>b", b"<|im_start|>")]
)
def test_special_tokens_are_hidden_or_shown(skip: bool, text: str, raw: bytes | None) -> None:
    ids = [97, IM_START, 98]
    options = TextOptions(skip_special_tokens=skip)
    events = run([output(*ids, finish=FinishReason.LENGTH)], options)
    assert text_of(events) == text
    assert events[0].tokens[1] == TextToken(IM_START, raw)


def test_prompt_logprobs_come_once_on_the_first_event_even_if_text_is_held_back() -> None:
    scores = [TokenLogprobs(97, -0.5, 1, [])]
    first = output(*b"a", prompt_logprobs=scores, num_cached_tokens=3)
    events = run(
        [first, output(*b"x"), output(*b"y", finish=FinishReason.LENGTH)], TextOptions(stop=["ab"])
    )
    assert [event.prompt_logprobs for event in events] == [scores, None]


def test_a_request_that_only_scores_its_prompt_has_one_event() -> None:
    (event,) = run([output(finish=FinishReason.LENGTH, prompt_logprobs=[])], TextOptions())
    assert event == TextEvent(text="", prompt_logprobs=[], finish_reason=FinishReason.LENGTH)


def test_logprobs_timings_and_cached_tokens_pass_through() -> None:
    scores = [TokenLogprobs(97, -0.5, 1, [(97, -0.5)]), TokenLogprobs(EOS, -1.0, 2, [])]
    timings = Timings(1.0, 2.0, 3.0, 6.0, 4)
    last = output(
        97, EOS, finish=FinishReason.STOP, logprobs=scores, timings=timings, num_cached_tokens=16
    )
    (event,) = run([last], TextOptions())
    assert [token.logprobs for token in event.tokens] == scores
    assert (event.timings, event.num_cached_tokens) == (timings, 16)


def test_an_engine_error_is_the_last_event() -> None:
    events = run(
        [output(*b"a"), output(finish=FinishReason.ERROR, error="out of memory")],
        TextOptions(stop=["ab"]),
    )
    (event,) = events
    assert (event.finish_reason, event.error, event.text) == (
        FinishReason.ERROR,
        "out of memory",
        "a",
    )


def test_nothing_can_be_fed_after_the_end() -> None:
    stream = TextStream(TOKENIZER, TextOptions())
    stream.feed(output(finish=FinishReason.ABORT))
    with pytest.raises(AssertionError):
        stream.feed(output(97))
