"""The benchmarks' own client counts what the server tells, and takes no failure for an answer."""

import pytest

from tests.bench.server.light import Answer, ask, with_wire
from tests.clients.stub import DONE, USAGE, Stub, completion_events, event
from thirdeye.clients.loadtest.driver.wire import Wire

USAGE_CHUNK = event({"choices": [], "usage": USAGE})


def asked(stub: Stub, **fields: object) -> Answer:
    async def work(wire: Wire) -> Answer:
        return await ask(wire, {"model": "m", "prompt": "Hi", "stream": True, **fields})

    return with_wire(stub.url, work)


def test_a_stream_is_stamped_at_its_first_choice_and_counted_by_its_usage(stub: Stub) -> None:
    stub.stream(b": keepalive\n\n", 0.02, *completion_events("one", " two")[:-1], USAGE_CHUNK, DONE)
    answer = asked(stub)
    assert answer.usage()["completion_tokens"] == 3
    assert 0.02 <= answer.seconds_to_first <= answer.ended_at - answer.sent_at
    assert stub.requests[0].path == "/v1/completions"


def test_a_whole_answer_has_its_usage(stub: Stub) -> None:
    stub.reply({"choices": [{"index": 0, "text": "Hello"}], "usage": USAGE})
    assert asked(stub, stream=False).usage()["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([*completion_events("one")[:-1]], "the stream broke off"),
        ([USAGE_CHUNK, DONE], "no choice"),
    ],
)
def test_a_stream_that_is_no_answer_is_an_error(stub: Stub, parts: list[bytes], why: str) -> None:
    """A server that fails would else be measured as a quick one."""
    stub.stream(*parts)
    with pytest.raises(RuntimeError, match=why):
        asked(stub)


def test_a_refusal_and_a_missing_usage_are_errors(stub: Stub) -> None:
    stub.reply({"error": {"message": "Too many."}}, status=429)
    with pytest.raises(RuntimeError, match=r"HTTP 429: .*Too many"):
        asked(stub)
    stub.stream(event({"choices": [{"index": 0, "text": "Hello"}]}), DONE)
    with pytest.raises(RuntimeError, match="tells no usage"):
        asked(stub).usage()
