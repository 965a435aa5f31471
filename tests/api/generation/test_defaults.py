"""What the model suggests to sample with counts where a request does not say, in every dialect."""

from typing import Any

import httpx
import pytest

from tests.api.support import CONTEXT, Served, fake_engine
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.engine.interface.types import SamplingParams

SUGGESTED = GenerationDefaults(
    temperature=0.6, top_p=0.9, top_k=20, min_p=0.05, repetition_penalty=1.1, max_tokens=30
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
    return schema["properties"][field]["anyOf"][0]["default"]


@pytest.mark.parametrize("path", DIALECTS)
def test_suggestions_count(served: Served, path: str) -> None:
    sampling = sampled(served, path)
    got = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
    assert got == (0.6, 0.9, 20, 0.05)
    assert sampling.repetition_penalty == 1.1


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
    }
    served.use(fake_engine())
    (card, _) = get(served, "/v1/models")["data"]
    assert set(card["generation_defaults"].values()) == {None}
    served.use(fake_engine(), defaults=SUGGESTED)
    schemas = get(served, "/openapi.json")["components"]["schemas"]
    for request in ("ChatRequest", "CompletionRequest", "ResponsesRequest", "MessagesRequest"):
        assert default_of(schemas[request], "temperature") == 0.6
    assert default_of(schemas["ResponsesRequest"], "presence_penalty") == 0
    assert default_of(schemas["CompletionRequest"], "max_tokens") == 16
