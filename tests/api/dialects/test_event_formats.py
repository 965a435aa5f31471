"""Formats made of events alone, under every way an answer can come: text and calls in any order,
cut into any events. What a stream's events add up to is the answer in one piece."""

import json
from itertools import groupby
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.api.support import served_model
from thirdeye.server.api.anthropic.events import MessagesFormat
from thirdeye.server.api.generation.answer_format import AnswerFormat, Joined
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.responses.events import ResponsesFormat
from thirdeye.server.api.responses.schema import ResponsesRequest
from thirdeye.server.engine.interface.types import FinishReason, Request, SamplingParams
from thirdeye.server.text.events import TextEvent, ToolCallDelta
from thirdeye.server.text.text_stream import TextOptions

GENERATION = Generation(
    id="id_1",
    created=0,
    model="tiny",
    prompts=[[1]],
    n=1,
    requests=[
        Request(request_id="id_1-0", prompt_token_ids=[1], sampling=SamplingParams(max_tokens=9))
    ],
    options=TextOptions(),
)
TEXTS = st.text(alphabet='ab"\\é🙂', max_size=4)
PIECES = st.lists(st.sampled_from(['"a"', ":", "1", ","]), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> list[TextEvent]:
    """Events as the pipeline makes them: text before the calls of an event, indexes that rise."""
    news: list[tuple[str, list[ToolCallDelta]]] = []
    num_calls = 0
    for is_call in draw(st.lists(st.booleans(), max_size=5)):
        if not is_call:
            news += [(text, []) for text in draw(st.lists(TEXTS, min_size=1, max_size=3))]
            continue
        arguments = ["{", *draw(PIECES), "}"]
        news.append((draw(TEXTS), [ToolCallDelta(num_calls, f"f{num_calls}")]))
        deltas = [ToolCallDelta(num_calls, None, piece) for piece in arguments]
        if draw(st.booleans()):
            news[-1][1].extend(deltas)
        else:
            news += [("", [delta]) for delta in deltas]
        num_calls += 1
    events = [TextEvent(text, calls) for text, calls in news if text or calls]
    reason = draw(st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]))
    return [*events, TextEvent("", finish_reason=reason, ended_in_tool_calls=num_calls > 0)]


def expected(events: list[TextEvent]) -> list[str]:
    """The parts of the answer, texts and calls, written down without any shape."""
    parts: list[tuple[int, str]] = []
    call, run = -1, 0
    for event in events:
        if event.text:
            run = run if parts and parts[-1][0] == run and call < 0 else run + 1
            call = -1
            parts.append((run, event.text))
        for delta in event.tool_calls:
            if delta.name is not None:
                run, call = run + 1, delta.index
                parts.append((run, delta.name))
            parts.append((run, delta.arguments))
    joined = ["".join(text for _, text in group) for _, group in groupby(parts, lambda p: p[0])]
    return joined or [""]


def streamed(form: AnswerFormat[Any], events: list[TextEvent]) -> list[dict[str, Any]]:
    frames = [frame for event in events for frame in form.frames(0, event)]
    return [json.loads(frame.split(b"\ndata: ")[1]) for frame in frames]


def whole(form: AnswerFormat[Any], events: list[TextEvent]) -> dict[str, Any]:
    answer = Joined(form)
    for event in events:
        answer.add(0, event)
    return json.loads(json.dumps(answer.whole()))


def response_format() -> ResponsesFormat:
    body = ResponsesRequest.model_validate({"model": "tiny", "input": "Hi"})
    return ResponsesFormat(body, GENERATION, served_model(), GENERATION.tally())


def item_text(item: dict[str, Any]) -> str:
    if item["type"] == "message":
        return str(item["content"][0]["text"])
    return str(item["name"] + item["arguments"])


@given(answers())
def test_response_events_add_up(events: list[TextEvent]) -> None:
    """Items open and close one after the other, and their deltas are what they end with."""
    found = streamed(response_format(), events)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    response = found[-1]["response"]
    assert [item_text(item) for item in response["output"]] == expected(events)
    middle = [event for event in found if "output_index" in event]
    for index, group in groupby(middle, lambda event: event["output_index"]):
        first, *inner, last = group
        assert first["type"] == "response.output_item.added"
        assert last["type"] == "response.output_item.done"
        assert last["item"] == response["output"][index]
        assert {event["item_id"] for event in inner} == {last["item"]["id"]}
        deltas = "".join(event.get("delta", "") for event in inner)
        assert last["item"].get("name", "") + deltas == item_text(last["item"])
    assert len([event for event in found if event["type"].endswith("item.added")]) == len(
        response["output"]
    )
    in_one_piece = whole(response_format(), events)
    assert [item_text(item) for item in in_one_piece["output"]] == expected(events)
    assert in_one_piece["status"] == response["status"]


@given(answers())
def test_message_events_add_up(events: list[TextEvent]) -> None:
    found = streamed(MessagesFormat(GENERATION, GENERATION.tally()), events)
    start, *middle, ending, stop = found
    assert (start["type"], ending["type"], stop["type"]) == (
        "message_start", "message_delta", "message_stop"
    )  # fmt: skip
    texts = []
    for index, group in groupby(middle, lambda event: event["index"]):
        first, *inner, last = group
        assert index == len(texts)
        kinds = (first["type"], last["type"])
        assert kinds == ("content_block_start", "content_block_stop")
        deltas = [event["delta"] for event in inner]
        pieces = [delta.get("text", delta.get("partial_json")) for delta in deltas]
        texts.append(first["content_block"].get("name", "") + "".join(pieces))
    assert texts == expected(events)
    message = whole(MessagesFormat(GENERATION, GENERATION.tally()), events)
    assert len(message["content"]) == len(texts)
    assert message["stop_reason"] == ending["delta"]["stop_reason"]
    for block, text in zip(message["content"], texts, strict=True):
        if block["type"] == "text":
            assert block["text"] == text
        else:
            assert text.startswith(block["name"])
