"""The OpenAPI document says what the server does: rules between fields, the model, every status."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from server.api.decimals import decimal_up_to
from server.api.state import ServerState
from server.app import create_app
from tests.api.support import CHAT, COMPLETION, fake_engine, ready_state
from tests.api.test_errors import CHAT_URL, TEXT_URL, ask

DOCUMENT = create_app(ready_state(fake_engine())).openapi()


def is_valid(request: str, body: dict[str, Any]) -> bool:
    schemas = {"components": DOCUMENT["components"]}
    schema = {"$ref": f"#/components/schemas/{request}"} | schemas
    return Draft202012Validator(schema).is_valid(body)


@given(st.integers(0, 10**20), st.integers(0, 10**20))
def test_decimals_up_to(largest: int, other: int) -> None:
    """The pattern takes 0..largest in one way of writing each, and nothing else."""
    pattern = re.compile(decimal_up_to(largest))
    for number in (0, other, largest // 3, largest - 1, largest, largest + 1):
        assert bool(pattern.fullmatch(str(number))) == (0 <= number <= largest)
        assert not pattern.fullmatch(f"0{number}")


CHANGES: list[tuple[str, dict[str, Any]]] = [
    (CHAT_URL, {}),
    (CHAT_URL, {"stream_options": {}}),
    (CHAT_URL, {"stream_options": None}),
    (CHAT_URL, {"top_logprobs": 2}),
    (CHAT_URL, {"top_logprobs": 2, "logprobs": True}),
    (CHAT_URL, {"prompt_logprobs": 1, "stream": True}),
    (CHAT_URL, {"prompt_logprobs": 1, "stream": False}),
    (CHAT_URL, {"continue_final_message": True, "add_generation_prompt": True}),
    (CHAT_URL, {"truncate_prompt_tokens": 0}),
    (CHAT_URL, {"truncate_prompt_tokens": -1}),
    (CHAT_URL, {"model": "gpt-4"}),
    (CHAT_URL, {"model": "org/tiny"}),
    (CHAT_URL, {"n": 2.0}),
    (CHAT_URL, {"n": 2.5}),
    (CHAT_URL, {"logit_bias": {"259": 1}}),
    (CHAT_URL, {"logit_bias": {"260": 1}}),
    (CHAT_URL, {"logit_bias": {"07": 1}}),
    (CHAT_URL, {"stop_token_ids": [259]}),
    (CHAT_URL, {"stop_token_ids": [260]}),
    (CHAT_URL, {"store": False}),
    (CHAT_URL, {"store": True}),
    (CHAT_URL, {"user": None, "seed": None, "tools": None}),
    (CHAT_URL, {"messages": None}),
    (TEXT_URL, {"max_tokens": 0}),
    (TEXT_URL, {"max_tokens": 0, "echo": True}),
    (TEXT_URL, {"max_tokens": None}),
    (TEXT_URL, {"prompt": [259, 1.0]}),
    (TEXT_URL, {"prompt": [260]}),
    (TEXT_URL, {"prompt": []}),
    (TEXT_URL, {"suffix": None}),
    (TEXT_URL, {"suffix": "x"}),
    ("/tokenize", {"prompt": "x"}),
    ("/tokenize", {"messages": None}),
    ("/tokenize", {"prompt": "x", "messages": CHAT["messages"]}),
    ("/tokenize", {"prompt": "x", "messages": None}),
    ("/detokenize", {"tokens": [259]}),
    ("/detokenize", {"tokens": [260]}),
]
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    CHAT_URL: ("ChatRequest", CHAT),
    TEXT_URL: ("CompletionRequest", COMPLETION),
    "/tokenize": ("TokenizeRequest", {}),
    "/detokenize": ("DetokenizeRequest", {}),
}


@pytest.mark.parametrize(("path", "change"), CHANGES, ids=str)
def test_the_document_refuses_what_the_server_refuses(path: str, change: dict[str, Any]) -> None:
    """And takes what it takes, in each rule's pair of cases."""
    name, good = REQUESTS[path]
    body = good | change
    assert is_valid(name, body) == (ask(path, body).status_code == 200)


def test_without_a_model_the_document_is_any_models() -> None:
    """It is asked for while the model is loading, too."""
    chat = create_app(ServerState()).openapi()["components"]["schemas"]["ChatRequest"]
    assert "enum" not in chat["properties"]["model"]


def test_every_status_and_header_is_documented() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"200", "401", "403", "500", "503"} <= answers.keys(), path
            assert (method == "post") == ("413" in answers), path
            assert all("x-request-id" in answer["headers"] for answer in answers.values())
            assert "Retry-After" in answers.get("429", answers["503"])["headers"]


def test_routes_that_stream_say_so() -> None:
    streaming = {
        path
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        if "text/event-stream" in operation["responses"]["200"]["content"]
    }
    assert streaming >= {CHAT_URL, TEXT_URL, "/v1/timeline"}
