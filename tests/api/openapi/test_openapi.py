"""The OpenAPI document says what the server does: rules between fields, the model, every status."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, Registry

from tests.api.http.test_errors import CHAT_URL, TEXT_URL, ask
from tests.api.support import (
    CHAT,
    COMPLETION,
    app_over,
    client_of,
    document,
    fake_engine,
    live,
    ready_state,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.requests.decimals import decimal_up_to
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.launch.asgi_app import create_app

DOCUMENT = document()


def is_valid(request: str, body: dict[str, Any]) -> bool:
    schemas = {"components": DOCUMENT["components"]}
    schema = {"$ref": f"#/components/schemas/{request}"} | schemas
    return Draft202012Validator(schema).is_valid(body)


@settings(deadline=None)
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
    (
        "/tokenize",
        {
            "messages": CHAT["messages"],
            "continue_final_message": True,
            "add_generation_prompt": True,
        },
    ),
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


def named(name: str) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": name, "schema": {}}}}


LONG = {"guided_grammar": "x" * (64 * 1024 + 1)}
OF_OTHER_ROUTES = {
    "a grammar that nobody compiles": ("/v1/chat/completions/render", "ChatRequest", CHAT | LONG),
    "an empty choice that nobody compiles": (
        "/v1/chat/completions/render",
        "ChatRequest",
        CHAT | {"guided_choice": ["a", ""]},
    ),
    "an empty text to look into": ("/v1/inspect", "InspectRequest", {"prompt": ""}),
    "a text to look into": ("/v1/inspect", "InspectRequest", {"prompt": "x"}),
    "a name of a form": ("/v1/responses", "ResponsesRequest", {"input": "x"} | named("a-b")),
    "an empty name": ("/v1/responses", "ResponsesRequest", {"input": "x"} | named("")),
    "a name with a dot": ("/v1/responses", "ResponsesRequest", {"input": "x"} | named("a.b")),
}


@pytest.mark.parametrize("case", OF_OTHER_ROUTES)
def test_the_document_and_the_server_of_other_routes(case: str) -> None:
    path, name, body = OF_OTHER_ROUTES[case]
    assert is_valid(name, body) == (ask(path, body).status_code == 200)


def test_without_a_model_the_document_is_any_models() -> None:
    """It is asked for while the model is loading, too."""
    chat = create_app(ServerState()).openapi()["components"]["schemas"]["ChatRequest"]
    assert "enum" not in chat["properties"]["model"]


def test_the_document_is_made_once_and_anew_for_another_model() -> None:
    """Anybody may ask for it, without end: it must not be computed for each."""
    state = ServerState()
    app = create_app(state)
    loading = app.document_bytes()
    assert app.document_bytes() is loading
    ready = ready_state(fake_engine())
    state.ready(*ready.serving())
    served = app.document_bytes()
    assert app.document_bytes() is served
    assert served != loading
    assert json.loads(served) == app.openapi()


def test_every_status_and_header_is_documented() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            assert {"200", "403", "431", "500", "503"} <= answers.keys(), path
            assert ("requestBody" in operation) == ({"408", "413"} <= answers.keys()), path
            assert all("x-request-id" in answer["headers"] for answer in answers.values())
            assert "Retry-After" in answers.get("429", answers["503"])["headers"]


def responses_of(config: ApiConfig) -> dict[str, Any]:
    """What each operation may answer, by path and method."""
    found = create_app(ready_state(fake_engine()), config).openapi()
    return {
        f"{method} {path}": operation
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
    } | {"": found}


ALLOWED = {
    "inspect": ["get /v1/timeline", "post /v1/inspect", "post /v1/inspect/vocabulary"],
    "operate": [
        "get /metrics",
        "post /reset_prefix_cache",
        "post /v1/load_lora_adapter",
        "post /v1/unload_lora_adapter",
    ],
}


def test_a_server_with_keys_says_who_may_ask() -> None:
    """Each operation wants a key and may say 401, but those that the gate lets through."""
    operations = responses_of(ApiConfig(api_keys=("k",)))
    whole = operations.pop("")
    assert whole["components"]["securitySchemes"].keys() == {"bearer", "x-api-key"}
    assert whole["security"] == [{"bearer": []}, {"x-api-key": []}]
    for name, operation in operations.items():
        is_open = name in ("get /health", "get /ping", "get /ready")
        scopes = [scope for scope in ("inspect", "operate") if name in ALLOWED[scope]]
        locks = [{"bearer": scopes}, {"x-api-key": scopes}]
        assert operation.get("security") == ([] if is_open else locks if scopes else None), name
        assert ("401" in operation["responses"]) == (not is_open), name
        assert ("403" in operation["responses"]) == (not is_open), name


def test_limits_of_keys_are_told_where_there_are_some() -> None:
    operations = responses_of(ApiConfig(tokens_per_minute=9, concurrent_requests=1))
    answers = operations["post /v1/chat/completions"]["responses"]
    for status in ("200", "429"):
        found = {name for name in answers[status]["headers"] if name.startswith("x-ratelimit")}
        assert found == {
            *(f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")),
            *(f"x-ratelimit-{what}-concurrent" for what in ("limit", "remaining")),
        }
    plain = responses_of(ApiConfig())["post /v1/chat/completions"]["responses"]["200"]["headers"]
    assert not any(name.startswith("x-ratelimit") for name in plain)


@pytest.mark.parametrize("hosts", [None, ("localhost",)])
def test_a_server_without_keys_knows_no_401(hosts: tuple[str, ...] | None) -> None:
    """And a 403 only where a foreign Host is refused."""
    operations = responses_of(ApiConfig(allowed_hosts=hosts))
    assert "security" not in operations.pop("")
    for operation in operations.values():
        assert "401" not in operation["responses"]
        assert ("403" in operation["responses"]) == (hosts is not None)


def test_routes_that_stream_say_so() -> None:
    streaming = {
        path
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        if "text/event-stream" in operation["responses"]["200"]["content"]
    }
    assert streaming == {CHAT_URL, TEXT_URL, "/v1/timeline", *STREAMS}


WHOLE: list[tuple[str, dict[str, Any] | None]] = [
    (CHAT_URL, CHAT | {"logprobs": True, "top_logprobs": 1}),
    (TEXT_URL, COMPLETION | {"logprobs": 1, "truncate_prompt_tokens": 1}),
    ("/v1/embeddings", {"model": "tiny", "input": ["Hi", "you"]}),
    ("/v1/embeddings", {"model": "tiny", "input": "Hi", "encoding_format": "base64"}),
    ("/v1/responses", {"model": "tiny", "input": "Hi"}),
    ("/v1/messages", CHAT | {"max_tokens": 4}),
    ("/v1/messages/count_tokens", CHAT),
    ("/api/chat", CHAT | {"stream": False}),
    ("/api/generate", COMPLETION | {"stream": False}),
    ("/api/embed", {"input": ["Hi", "you"]}),
    ("/api/embeddings", {"prompt": "Hi"}),
    ("/api/show", {"model": "tiny"}),
    ("/v1/inspect", {"prompt": "Hi"}),
    ("/v1/inspect/vocabulary", {"tokens": ["a", 98]}),
    ("/tokenize", {"prompt": "Hi", "return_token_strs": True}),
    ("/apply-template", CHAT),
    ("/v1/chat/completions/render", CHAT),
    ("/v1/chat/completions/input_tokens", CHAT),
    ("/v1/responses/input_tokens", {"model": "tiny", "input": "Hi"}),
    ("/props", None),
    ("/detokenize", {"tokens": [72]}),
    *((path, None) for path in ("/v1/models", "/tokenizer_info")),
    *((path, None) for path in ("/api/tags", "/api/ps", "/api/version")),
    *((path, None) for path in ("/health", "/ping", "/ready", "/version", "/load", "/v1/loads")),
]


@pytest.mark.parametrize(("path", "body"), WHOLE)
def test_the_document_tells_what_whole_answers_hold(path: str, body: dict[str, Any] | None) -> None:
    """An answer is of the documented schema, and without one of the keys it names it is not."""
    operation = DOCUMENT["paths"][path]["get" if body is None else "post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    judge = Draft202012Validator(schema | {"components": DOCUMENT["components"]})
    found = whole_answer(path, body)
    judge.validate(found)
    for name in DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["required"]:
        assert not judge.is_valid({key: value for key, value in found.items() if key != name})


def whole_answer(path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with client_of(app_over(fake_engine())[0]) as client:
            asked = client.get(path) if body is None else client.post(path, json=body)
            found: dict[str, Any] = (await asked).json()
            return found

    return asyncio.run(main())


INPUT: dict[str, Any] = {"model": "tiny", "input": "Hi"}
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/responses": INPUT,
    "/v1/messages": CHAT | {"max_tokens": 4},
    "/v1/inspect": {"prompt": "Hi"},
}


@pytest.mark.parametrize(
    ("path", "body", "engine"),
    [
        *((path, body, {}) for path, body in STREAMS.items()),
        (CHAT_URL, CHAT | {"logprobs": True, "stream_options": {"include_usage": True}}, {}),
        (CHAT_URL, CHAT, {"error_after": 2}),
        (TEXT_URL, COMPLETION | {"logprobs": 1, "echo": True, "return_token_ids": True}, {}),
        ("/v1/timeline", None, {}),
    ],
)
def test_the_document_tells_what_streams_carry(
    path: str, body: dict[str, Any] | None, engine: dict[str, Any]
) -> None:
    """Each event's data is of the documented schema, and an empty object is of none."""
    method = "get" if body is None else "post"
    content = DOCUMENT["paths"][path][method]["responses"]["200"]["content"]
    item = content["text/event-stream"]["x-itemSchema"]
    schema = item["properties"]["data"]["else"]["contentSchema"]
    judge = Draft202012Validator(schema | {"components": DOCUMENT["components"]})
    assert not judge.is_valid({})
    for data in stream_of(path, body, engine):
        judge.validate(data)


@pytest.mark.parametrize("engine", [{}, {"error_after": 2}], ids=str)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_the_document_tells_what_lines_carry(path: str, engine: dict[str, Any]) -> None:
    content = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]
    schema = content["application/x-ndjson"]["x-itemSchema"]
    judge = Draft202012Validator(schema | {"components": DOCUMENT["components"]})
    assert not judge.is_valid({})
    with live(ready_state(fake_engine(**engine))) as url:
        lines = httpx.post(url + path, json=CHAT if "chat" in path else COMPLETION).text.split("\n")
    assert len(lines) > 2
    for line in lines[:-1]:
        judge.validate(json.loads(line))


def test_media_types_have_what_openapi_3_1_knows() -> None:
    """A stream's items are told by an extension: `itemSchema` is of 3.2, and strict readers refuse
    the whole document for it."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    known = {"schema", "example", "examples", "encoding"}
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (body.get("content", {}) for body in bodies):
                names = {name for media in content.values() for name in media}
                assert {name for name in names if not name.startswith("x-")} <= known


def test_every_default_is_a_value_of_its_field() -> None:
    schemas, num_found = [(DOCUMENT, "")], 0
    registry = Registry(
        [("urn:document", DOCUMENT)]
    )  # read once: each of its schemas refers to others
    while schemas:
        at, path = schemas.pop()
        inside = at.items() if isinstance(at, dict) else enumerate(at)
        parts = [(it, str(key).replace("~", "~0").replace("/", "~1")) for key, it in inside]
        schemas += [(it, f"{path}/{key}") for it, key in parts if isinstance(it, dict | list)]
        if isinstance(at, dict) and "default" in at and not isinstance(at["default"], dict):
            num_found += 1
            here = {"$ref": f"urn:document#{path}"}
            judge = Draft202012Validator(here, registry=registry)
            assert judge.is_valid(at["default"]), path
    assert num_found > 100


def stream_of(path: str, body: dict[str, Any] | None, engine: dict[str, Any]) -> list[Any]:
    """The data of a stream's events, at least one; of one without an end, the first."""
    with live(ready_state(fake_engine(**engine))) as url:
        if body is None:  # somebody has to ask, for there to be steps
            httpx.post(url + TEXT_URL, json=COMPLETION, trust_env=False)
        asked = body and body | {"stream": True}
        found: list[Any] = []
        with httpx.stream("POST" if body else "GET", url + path, json=asked) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    found.append(json.loads(line.removeprefix("data: ")))
                if found and body is None:
                    break
    assert found
    return found
