"""`/v1/embeddings` over the fake engine: inputs, formats, order, usage, errors."""

import base64
import struct
from typing import Any

import httpx
import openai
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.http.test_surface import ask as ask_default
from tests.api.support import BOS, CONTEXT, EOS, ByteTokenizer, fake_engine, live, ready_state
from tests.engine.process.fake_engine import FakeEngine
from tests.engine.process.fake_traces import FAKE_WIDTH
from thirdeye.clients.bounds.answer_body import MAX_ANSWER_BYTES
from thirdeye.server.api.openai import embeddings
from thirdeye.server.api.openai.embeddings import MAX_NUMBERS
from thirdeye.server.engine.interface.pooling import unit_vector
from thirdeye.server.engine.interface.types import ErrorCode

URL = "/v1/embeddings"
GOOD: dict[str, Any] = {"model": "tiny", "input": "Hi"}


def ask(body: dict[str, Any], engine: FakeEngine | None = None, **model: Any) -> httpx.Response:
    state = ready_state(engine or fake_engine(), **model)
    answer = ask_default("POST", URL, body, state=state)
    assert state.admission.in_flight == 0
    return answer


def vector(token_ids: list[int]) -> list[float]:
    """The fake engine's."""
    return unit_vector([len(token_ids), sum(token_ids)])


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("Hi", [[*b"Hi"]]),
        (["Hi", "a"], [[*b"Hi"], [*b"a"]]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        ("a<|end|>", [[97, EOS]]),
    ],
)
def test_every_form_of_input_is_taken(given: Any, prompts: list[list[int]]) -> None:
    engine = fake_engine()
    answer = ask(GOOD | {"input": given}, engine).json()
    assert [request.prompt_token_ids for request in engine.requests] == prompts
    assert all(request.is_embedding for request in engine.requests)
    count = sum(map(len, prompts))
    timings = answer.pop("timings")
    assert timings["prompt_n"] <= count
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": vector(prompt)}
            for i, prompt in enumerate(prompts)
        ],
        "model": "tiny",
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def test_base64_is_little_endian_float32() -> None:
    text = ask(GOOD | {"encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(text)) == pytest.approx(vector([*b"Hi"]))


def test_many_inputs_come_back_in_order_and_never_crowd_the_engine() -> None:
    """A thousand texts, as libraries send them: no more at once than the engine can run."""
    engine = fake_engine(max_num_seqs=4)
    seen: list[int] = []
    engine_generate = engine.generate

    def counting(request: Any, take: Any) -> Any:
        seen.append(engine.stats().num_requests_running)
        return engine_generate(request, take)

    engine.generate = counting  # type: ignore[method-assign]  # a spy
    texts = [f"text {i}" for i in range(1000)]
    data = ask(GOOD | {"input": texts}, engine).json()["data"]
    assert [entry["index"] for entry in data] == list(range(1000))
    assert [entry["embedding"] for entry in data] == [vector([*text.encode()]) for text in texts]
    assert max(seen) < 4


def test_bos_and_eos_are_the_models_business_unless_told_otherwise() -> None:
    """Models that embed by the last token were trained with EOS there."""

    class WithEnds(ByteTokenizer):
        prefix_ids = (BOS,)
        suffix_ids = (EOS,)

    engine = fake_engine()
    ask(GOOD, engine, tokenizer=WithEnds())
    ask(GOOD | {"add_special_tokens": False}, engine, tokenizer=WithEnds())
    assert [r.prompt_token_ids for r in engine.requests] == [[BOS, *b"Hi", EOS], [*b"Hi"]]


def test_inputs_are_cut_only_on_request() -> None:
    engine = fake_engine()
    long = "x" * 600 + "ab"
    answer = ask(GOOD | {"input": long, "truncate_prompt_tokens": 2}, engine).json()
    assert engine.requests[0].prompt_token_ids == [*b"ab"]
    assert answer["timings"]["truncated_n"] == 600
    ask(GOOD | {"input": long, "truncate_prompt_tokens": -1}, engine)
    assert len(engine.requests[1].prompt_token_ids) == CONTEXT
    assert ask(GOOD | {"input": "x" * CONTEXT}).status_code == 200


@pytest.mark.parametrize(("cut", "left"), [("START", b"ab"), ("END", b"xx"), (True, b"xx")])
def test_either_end_of_an_input_may_be_cut(cut: Any, left: bytes) -> None:
    engine = fake_engine()
    answer = ask(GOOD | {"input": "x" * 600 + "ab", "truncate": cut}, engine).json()
    prompt = engine.requests[0].prompt_token_ids
    assert (len(prompt), bytes(prompt[-2:])) == (CONTEXT, left)
    assert answer["timings"]["truncated_n"] == 602 - CONTEXT


def test_the_width_that_vectors_have_anyway_may_be_asked_for() -> None:
    assert ask(GOOD | {"dimensions": FAKE_WIDTH}).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "code", "says"),
    [
        ({"input": None}, "input", "missing_required_parameter", "'input'"),
        ({"input": ""}, "input", "empty_string", "must not be an empty string"),
        ({"input": ["a", ""]}, "input[1]", "empty_string", "empty"),
        ({"input": []}, "input", "array_below_min_length", "at least 1"),
        ({"input": [[]]}, "input[0]", "array_below_min_length", "at least 1"),
        ({"input": ["a"] * 2049}, "input", "array_above_max_length", "at most 2048"),
        ({"input": 5}, "input", "invalid_type", "got integer"),
        ({"input": ["a", 5]}, "input[1]", "invalid_type", "got integer"),
        ({"input": [5, 260]}, "input[1]", "invalid_value", "between 0 and 259"),
        ({"input": [[5], [-1]]}, "input[1][0]", "invalid_value", "vocabulary"),
        ({"input": "x" * 513}, "input", "context_length_exceeded", "is 512 tokens"),
        ({"input": ["a", "x" * 513]}, "input[1]", "context_length_exceeded", "513"),
        ({"dimensions": 2}, "dimensions", "unsupported_value", "must be 4, got 2"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value", "'float' or 'base64'"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "invalid_value", "at least 1"),
        ({"temperature": 1}, "temperature", "unknown_parameter", "temperature"),
        ({"inputs": "a"}, "inputs", "unknown_parameter", "did you mean 'input'?"),
    ],
)
def test_each_bad_input_is_refused_by_name(
    change: dict[str, Any], param: str, code: str, says: str
) -> None:
    answer = ask(GOOD | change)
    error = check_envelope(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert says in error["message"]


def test_an_unknown_model_is_404_and_null_is_not_given() -> None:
    assert ask(GOOD | {"model": "gpt-4"}).status_code == 404
    assert ask(GOOD | {"dimensions": None, "encoding_format": None}).status_code == 200


def test_a_failure_of_one_input_is_a_failure_of_all() -> None:
    code = ErrorCode.QUEUE_TIMEOUT
    answer = ask(GOOD | {"input": ["a", "b"]}, fake_engine(error_after=0, error_code=code))
    assert answer.status_code == 503
    assert check_envelope(answer)["code"] == "queue_timeout"


def test_the_official_client_reads_both_formats() -> None:
    """It asks for base64 by itself, and unpacks it."""
    with live(ready_state(fake_engine())) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        found = client.embeddings.create(model="tiny", input=["Hi", "a"])
        plain = client.embeddings.create(model="tiny", input="Hi", encoding_format="float")
    assert found.data[1].embedding == pytest.approx(vector([*b"a"]))
    assert plain.data[0].embedding == vector([*b"Hi"])
    assert found.usage.prompt_tokens == 3


@pytest.mark.parametrize("url", [URL, "/api/embed"])
def test_an_answer_is_bounded_as_inputs_times_numbers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,048 texts of a wide model were hundreds of megabytes, of 2 KB that were sent."""
    monkeypatch.setattr(embeddings, "MAX_NUMBERS", 4 * FAKE_WIDTH)
    engine = fake_engine()
    state = ready_state(engine)
    for num_inputs, status in ((4, 200), (5, 400)):
        body = {"model": "tiny", "input": ["a"] * num_inputs}
        answer = ask_default("POST", url, body, state=state)
        assert answer.status_code == status
    assert b"'input' must hold at most 4 texts for vectors of 4 numbers" in answer.content
    assert len(engine.requests) == 4
    assert state.admission.in_flight == 0


def test_one_text_is_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "MAX_NUMBERS", 1)
    assert ask(GOOD).status_code == 200


def test_an_answer_of_the_most_numbers_is_one_that_our_clients_read() -> None:
    assert MAX_NUMBERS * len("-0.0123456789012345678,") < MAX_ANSWER_BYTES
