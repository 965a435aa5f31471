"""What the model suggests to sample with counts where a request does not say, in every dialect."""

from typing import Any

import httpx
import pytest

from tests.api.support import CONTEXT, Served, fake_engine, says
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.engine.interface.types import SamplingParams

SUGGESTED = GenerationDefaults(
    temperature=0.6,
    top_p=0.9,
    top_k=20,
    min_p=0.05,
    repetition_penalty=1.1,
    max_tokens=30,
    min_tokens=4,
    stop=("e",),
    logit_bias={5: -100.0},
)
HI = [{"role": "user", "content": "Hi"}]
DIALECTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 50},
}
NAMED = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}


def sampled(served: Served, path: str, **changes: Any) -> SamplingParams:
    engine = served.use(fake_engine(), defaults=SUGGESTED)
    served.whole(path, {"model": "tiny"} | DIALECTS[path] | changes)
    return engine.requests[-1].sampling


def get(served: Served, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(served.url + path, trust_env=False).json()
    return found


def default_of(schema: dict[str, Any], field: str) -> object:
    return schema["properties"][field]["default"]


@pytest.mark.parametrize("path", DIALECTS)
def test_suggestions_count(served: Served, path: str) -> None:
    sampling = sampled(served, path)
    got = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
    assert got == (0.6, 0.9, 20, 0.05)
    assert sampling.repetition_penalty == 1.1
    assert (sampling.min_tokens, sampling.logit_bias) == (4, {5: -100.0})


@pytest.mark.parametrize("path", DIALECTS)
def test_what_a_request_names_wins(served: Served, path: str) -> None:
    """Also where it names the API's own default."""
    sampling = sampled(served, path, **NAMED)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
    assert sampling.min_p == 0.05


@pytest.mark.parametrize("path", DIALECTS)
def test_null_names_nothing(served: Served, path: str) -> None:
    assert sampled(served, path, temperature=None).temperature == 0.6


def test_without_suggestions_the_apis_defaults_count(served: Served) -> None:
    engine = served.use(fake_engine())
    served.whole("/v1/chat/completions", {"model": "tiny", "messages": HI})
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
    assert sampling.max_tokens == CONTEXT - len(engine.requests[-1].prompt_token_ids)


def test_a_chat_without_a_limit_is_no_longer_than_suggested(served: Served) -> None:
    assert sampled(served, "/v1/chat/completions").max_tokens == 30
    assert sampled(served, "/v1/chat/completions", max_tokens=40).max_tokens == 40
    assert sampled(served, "/v1/completions").max_tokens == 16
    assert sampled(served, "/v1/messages").max_tokens == 50


def test_a_response_says_what_it_was_sampled_with(served: Served) -> None:
    served.use(fake_engine(), defaults=SUGGESTED)
    answer = served.whole("/v1/responses", {"model": "tiny", "input": "Hi", "top_p": 0.5})
    assert (answer["temperature"], answer["top_p"]) == (0.6, 0.5)


def test_models_and_the_document_show_them(served: Served) -> None:
    served.use(fake_engine(), defaults=SUGGESTED)
    (card, _) = get(served, "/v1/models")["data"]
    assert card["generation_defaults"] == {
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "max_tokens": 30,
        "min_tokens": 4,
        "stop": ["e"],
        "logit_bias": {"5": -100.0},
    }
    served.use(fake_engine())
    (card, _) = get(served, "/v1/models")["data"]
    assert set(card["generation_defaults"].values()) == {None}
    served.use(fake_engine(), defaults=SUGGESTED)
    schemas = get(served, "/openapi.json")["components"]["schemas"]
    for request in ("ChatRequest", "CompletionRequest", "ResponsesRequest", "MessagesRequest"):
        assert default_of(schemas[request], "temperature") == 0.6
    assert default_of(schemas["ChatRequest"], "min_tokens") == 4
    assert default_of(schemas["ResponsesRequest"], "presence_penalty") == 0
    assert default_of(schemas["CompletionRequest"], "max_tokens") == 16


def answer(served: Served, path: str, **changes: Any) -> str:
    """The text of an answer of twelve tokens, "Hello there!" letter by letter."""
    served.use(fake_engine(says("Hello there!")), defaults=GenerationDefaults(stop=("t", "!")))
    got = served.whole(path, {"model": "tiny"} | DIALECTS[path] | changes)
    if path == "/v1/completions":
        return str(got["choices"][0]["text"])
    if path == "/v1/chat/completions":
        return str(got["choices"][0]["message"]["content"])
    return str((got["output"][0] if "output" in got else got)["content"][0]["text"])


@pytest.mark.parametrize("path", DIALECTS)
def test_suggested_strings_end_an_answer(served: Served, path: str) -> None:
    assert answer(served, path) == "Hello "


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages"])
def test_strings_that_a_request_names_end_it_instead(served: Served, path: str) -> None:
    name = "stop_sequences" if path == "/v1/messages" else "stop"
    assert answer(served, path, **{name: ["r"]}) == "Hello the"
    if path != "/v1/messages":  # whose empty list names nothing
        assert answer(served, path, **{name: []}) == "Hello there!"


def test_a_token_that_a_request_biases_is_its_own(served: Served) -> None:
    bias = {"5": 2, "6": 1}
    sampling = sampled(served, "/v1/chat/completions", logit_bias=bias)
    assert sampling.logit_bias == {5: 2.0, 6: 1.0}
    assert sampled(served, "/v1/completions", logit_bias={"6": 1}).logit_bias == {5: -100.0, 6: 1.0}


def test_a_suggested_minimum_yields_to_a_smaller_limit(served: Served) -> None:
    assert sampled(served, "/v1/completions", max_tokens=2).min_tokens == 2
    assert sampled(served, "/v1/completions", min_tokens=0).min_tokens == 0
