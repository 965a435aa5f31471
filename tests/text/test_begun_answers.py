"""An answer that goes on behind tokens drawn elsewhere: the text of the whole, from there on."""

from hypothesis import given
from hypothesis import strategies as st

from tests.text.answers import (
    EOS,
    TOKENIZER,
    answers,
    feed_all,
    ids_of,
    options_of,
    run,
    split_into_outputs,
    text_of,
)
from thirdeye.server.text.text_stream import TextOptions, TextStream


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12), st.data())
def test_it_is_the_whole_answer_and_lists_what_is_new(
    ids: list[int], options: TextOptions, places: list[int], data: st.DataObject
) -> None:
    whole = run(split_into_outputs(ids, places), options)
    known = data.draw(st.integers(0, max(len(ids_of(whole)) - 1, 0)))
    stream = TextStream(TOKENIZER, options, frozenset({EOS}))
    stream.begin_with(ids[:known])
    events = feed_all(stream, split_into_outputs(ids[known:], places))
    assert text_of(events) == text_of(whole)
    assert ids_of(events) == ids_of(whole)[known:]
    assert events[-1].stop_reason == whole[-1].stop_reason
    assert events[-1].finish_reason == whole[-1].finish_reason
    assert events[-1].num_generated_tokens == whole[-1].num_generated_tokens


def test_what_ends_in_what_it_begins_with_ends_there() -> None:
    stream = TextStream(TOKENIZER, TextOptions(stop=["ab"]))
    stream.begin_with([*b"xaby"])
    (event,) = feed_all(stream, split_into_outputs([*b"zz"], []))
    assert (event.text, event.stop_reason, event.num_generated_tokens) == ("x", "ab", 3)
