"""The format alone, under every way an answer can come: text and calls in any order, cut into any
events. What the lines add up to is the answer in one piece."""

import json
from collections.abc import Sequence

from hypothesis import given

from tests.api.dialects.test_event_formats import GENERATION, answers
from tests.api.ollama.lines import Json, joined, without_times
from tests.api.support import served_model
from thirdeye.server.api.generation.answer_format import Joined, encode
from thirdeye.server.api.ollama.answers import chat_answer
from thirdeye.server.api.ollama.events import OllamaFormat
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.text.events import TextEvent


def format_of(tally: Tally) -> OllamaFormat:
    return OllamaFormat(
        *(chat_answer, None, GENERATION, served_model(), tally), with_logprobs=False
    )


def expected(events: Sequence[TextEvent]) -> tuple[str, list[tuple[str, Json]]]:
    """Text and calls, written down without any shape. A call that is no JSON was cut."""
    arguments: dict[int, str] = {}
    names: dict[int, str] = {}
    for delta in (delta for event in events for delta in event.tool_calls):
        names[delta.index] = delta.name or names[delta.index]
        arguments[delta.index] = arguments.get(delta.index, "") + delta.arguments
    calls = []
    for index, text in arguments.items():
        try:
            calls.append((names[index], json.loads(text)))
        except ValueError:
            continue
    return "".join(event.text for event in events), calls


@given(answers())
def test_lines_add_up(events: list[TextEvent]) -> None:
    tally = GENERATION.tally()
    form, lines = format_of(tally), []
    for event in events:
        tally.add(0, event)
        lines += [json.loads(frame) for frame in form.frames(0, event)]
    tally = GENERATION.tally()
    answer = Joined(format_of(tally))
    for event in events:
        tally.add(0, event)
        answer.add(0, event)
    whole = json.loads(encode(answer.whole()))
    assert without_times(joined(lines)) == without_times(whole)
    text, calls = expected(events)
    message = whole["message"]
    assert message["content"] == text
    found = [call["function"] for call in message.get("tool_calls", [])]
    assert [(call["name"], call["arguments"]) for call in found] == calls
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
