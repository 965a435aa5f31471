"""Each field of Ollama's requests by the rule of docs/api.md that answers it: obeyed, neutral, a
hint that the header names, or refused by name."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.api.ollama.lines import ASK, CHAT, GENERATE, GOOD, HI, Json, whole
from tests.api.openai.tools import TOOLS
from tests.api.support import Served, client_of, fake_engine, live, ready_state
from thirdeye.server.api.field_rules.hints import hints_of
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.ollama.sampling_options import NotHere, OllamaOptions
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.launch.asgi_app import create_app

HEADER = "x-ignored-params"
BOTH = (CHAT, GENERATE)
EMBED, EMBEDDINGS, SHOW = "/api/embed", "/api/embeddings", "/api/show"
IMAGES = ["aGk="]
SILENT: list[tuple[str, Json]] = [
    *((path, change) for path in BOTH for change in (
        {}, {"stream": False}, {"format": ""}, {"format": "json"}, {"format": {"type": "object"}},
        {"format": None}, {"options": {}}, {"options": None}, {"think": None}, {"think": False},
        {"keep_alive": None}, {"truncate": False}, {"shift": False}, {"logprobs": True},
        {"logprobs": True, "top_logprobs": 20}, {"logprobs": False}, {"model": None},
        {"options": {"num_predict": -1}}, {"options": {"num_predict": -2}},
        {"options": {"num_predict": 8, "temperature": 0.5, "top_k": 40, "top_p": 0.9,
                     "min_p": 0.1, "seed": 7, "stop": ["a"], "repeat_penalty": 1.1,
                     "presence_penalty": 0.5, "frequency_penalty": -0.5}},
        {"options": {"seed": -1}}, {"options": {"stop": []}}, {"options": {"stop": "x"}},
        {"options": {"mirostat": 0, "repeat_last_n": -1, "tfs_z": 1, "typical_p": 1.0,
                     "penalize_newline": True, "num_ctx": None, "mirostat_tau": 5.0}},
        {"options": {"mirostat_eta": 0.1, "repeat_last_n": 64, "penalize_newline": False}},
        {"options": {"repeat_last_n": 0, "repeat_penalty": 1.1, "penalize_newline": False}},
        {"options": {"repeat_last_n": 64, "repeat_penalty": 1.1, "penalize_newline": True}},
    )),
    *((CHAT, {"messages": [HI | more]}) for more in (
        {"images": []}, {"images": None}, {"thinking": None, "tool_calls": None, "tool_name": None},
        {"thinking": "", "tool_calls": []},
    )),
    (CHAT, {"tools": []}),
    *((GENERATE, change) for change in (
        {"suffix": "", "template": "", "images": [], "context": [], "system": "", "raw": False},
        {"width": None, "height": None, "steps": None}, {"width": 0, "height": 0, "steps": 0},
        {"raw": True}, {"system": "Be brief."},
    )),
    (EMBED, {"input": ["a", "b"], "truncate": True, "dimensions": None, "options": {}}),
    (EMBEDDINGS, {"keep_alive": None}),
    (SHOW, {"verbose": False}), (SHOW, {"model": None, "name": "tiny"}),
]  # fmt: skip
HINTS: list[tuple[str, Json, str]] = [
    *((path, change, names) for path in BOTH for change, names in (
        ({"keep_alive": "5m"}, "keep_alive"), ({"keep_alive": -1}, "keep_alive"),
        ({"keep_alive": 0}, "keep_alive"), ({"think": True}, "think"), ({"think": "low"}, "think"),
        ({"truncate": True, "shift": True}, "shift, truncate"),
        ({"options": {"num_ctx": 4096, "num_gpu": 1}}, "num_ctx, num_gpu"),
        ({"options": {"num_keep": 5, "use_mmap": True}}, "num_keep, use_mmap"),
        ({"options": {"num_predict": 100_000}}, "options.num_predict"),
    )),
    (GENERATE, {"raw": True, "options": {"num_predict": 100_000}}, "options.num_predict"),
    *((EMBED, change, names) for change, names in (
        ({"options": {"num_ctx": 64}}, "options"), ({"keep_alive": "5m"}, "keep_alive"),
    )),
    (SHOW, {"verbose": True}, "verbose"),
]  # fmt: skip
REFUSED: list[tuple[str, Json, str]] = [
    *((path, change, field) for path in BOTH for change, field in (
        ({"format": "xml"}, "format"), ({"format": 1}, "format"),
        ({"format": {"not": {"type": "object"}}}, "format"),
        ({"think": "hard"}, "think"), ({"stream": 1}, "stream"), ({"keep": 1}, "keep"),
        ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": 1}, "logprobs"),
        ({"options": {"num_predict": 0}}, "options.num_predict"),
        ({"options": {"num_predict": -3}}, "options.num_predict"),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"temperature": "0"}}, "options.temperature"),
        ({"options": {"top_p": 2}}, "options.top_p"),
        ({"options": {"repeat_penalty": 0}}, "options.repeat_penalty"),
        ({"options": {"stop": ["a"] * 17}}, "options.stop"),
        ({"options": {"stop": [1]}}, "options.stop[0]"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"repeat_last_n": -2}}, "options.repeat_last_n"),
        ({"options": {"mirostat": 1, "mirostat_tau": 5.0}}, "options.mirostat"),
        ({"options": {"tfs_z": 0.9}}, "options.tfs_z"),
        ({"options": {"typical_p": 0.7}}, "options.typical_p"),
        ({"options": {"penalize_newline": False, "repeat_penalty": 1.1}},
         "options.penalize_newline"),
        ({"options": {"num_predit": 5}}, "options.num_predit"), ({"options": ["a"]}, "options"),
    )),
    *((CHAT, change, field) for change, field in (
        ({"messages": [HI | {"images": IMAGES}]}, "messages[0].images"),
        ({"messages": [HI | {"role": "model"}]}, "messages[0].role"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [HI | {"content": 1}]}, "messages[0].content"),
        ({"messages": [HI | {"thinking": "x"}]}, "messages[0].thinking"),
        ({"messages": [HI | {"tool_calls": [{}]}]}, "messages[0].tool_calls"),
        ({"messages": [HI, {"role": "tool", "content": "x", "name": "a", "tool_name": "b"}]},
         "messages[1].name"),
        ({"messages": [HI, {"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": {}}}]}]}, "messages"),
        ({"messages": [HI, {"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": "{}"}}]}, HI],},
         "messages[1].tool_calls[0].function.arguments"),
        ({"tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOLS[1], TOOLS[1]]}, "tools[1].function.name"),
        ({"tools": TOOLS, "messages": []}, "tools"),
    )),
    *((GENERATE, change, field) for change, field in (
        ({"suffix": "x"}, "suffix"), ({"template": "{{ .Prompt }}"}, "template"),
        ({"images": IMAGES}, "images"), ({"context": [1, 2]}, "context"), ({"width": 8}, "width"),
        ({"raw": True, "system": "x"}, "system"), ({"raw": True, "think": True}, "think"),
        ({"raw": True, "top_logprobs": 2}, "top_logprobs"), ({"prompt": 1}, "prompt"),
        ({"prompt": "x" * 5000}, "prompt"), ({"raw": True, "prompt": "x" * 5000}, "prompt"),
        ({"raw": True, "options": {"stop": ["a" * 300]}}, "options.stop"),
    )),
    *((EMBED, change, field) for change, field in (
        ({"dimensions": 8}, "dimensions"), ({"input": ""}, "input"), ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"), ({"input": [1]}, "input[0]"), ({"input": 1}, "input"),
        ({"input": ["x", "y" * 5000]}, "input[1]"),
    )),
    *((EMBEDDINGS, change, field) for change, field in (
        ({"prompt": ""}, "prompt"), ({"prompt": "x" * 5000}, "prompt"), ({"input": "x"}, "input"),
    )),
    (SHOW, {"template": "x"}, "template"),
]  # fmt: skip


APP = create_app(ready_state(fake_engine()))


def sent(path: str, change: Json, app: FastAPI = APP) -> httpx.Response:
    """The answer to a good request with a change."""

    async def main() -> httpx.Response:
        async with client_of(app) as client:
            return await client.post(path, json=GOOD[path] | change)

    return asyncio.run(main())


@pytest.mark.parametrize(("path", "change"), SILENT, ids=str)
def test_what_is_obeyed_or_asks_for_nothing_passes_in_silence(path: str, change: Json) -> None:
    answer = sent(path, change)
    assert answer.status_code == 200, answer.text
    assert HEADER not in answer.headers


@pytest.mark.parametrize(("path", "change", "names"), HINTS, ids=str)
def test_a_hint_is_taken_and_named(path: str, change: Json, names: str) -> None:
    """Of streams, which are the default, and of whole answers."""
    for more in ({}, {"stream": False}) if path in BOTH else ({},):
        answer = sent(path, change | more)
        assert answer.status_code == 200, answer.text
        assert answer.headers[HEADER] == names


@pytest.mark.parametrize(("path", "change", "field"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_obeyed_is_refused_by_name(path: str, change: Json, field: str) -> None:
    """In Ollama's envelope, and before a stream has begun."""
    answer = sent(path, change)
    assert answer.status_code == 400, answer.text
    assert answer.json().keys() == {"error"}
    assert f"'{field}'" in answer.json()["error"] or f"'{field}." in answer.json()["error"]


def test_every_option_of_the_official_client_is_known() -> None:
    import ollama

    assert ollama.Options.model_fields.keys() <= OllamaOptions.model_fields.keys()


def test_every_option_is_in_one_of_these_tables() -> None:
    tried = {
        name
        for _, change, *_ in (*SILENT, *HINTS, *REFUSED)
        for name in (change.get("options") or {} if isinstance(change.get("options"), dict) else {})
    }
    fields = OllamaOptions.model_fields
    assert fields.keys() - hints_of(fields).keys() <= tried


def test_every_hint_among_the_options_is_named() -> None:
    for name in hints_of(OllamaOptions.model_fields):
        answer = sent(CHAT, {"options": {name: 1}})
        assert answer.headers[HEADER] == name


def test_refused_options_say_why() -> None:
    marks = [m for f in OllamaOptions.model_fields.values() for m in f.metadata]
    assert sum(isinstance(mark, NotHere) for mark in marks) == 5


def test_leniency_reaches_every_depth() -> None:
    change = {
        "top": 1,
        "options": {"in_options": 1},
        "messages": [HI | {"in_message": 1}],
        "tools": [{"type": "function", "in_tool": 1, "function": {"name": "f", "in_function": 1}}],
    }
    roomy = ready_state(fake_engine(), max_model_len=2048)
    answer = sent(CHAT, change, create_app(roomy, ApiConfig(lenient=True)))
    assert answer.status_code == 200, answer.text
    assert answer.headers[HEADER] == "in_function, in_message, in_options, in_tool, top"


def test_a_limit_above_the_room_is_refused_if_the_operator_says_so() -> None:
    app = create_app(ready_state(fake_engine()), ApiConfig(strict_max_tokens=True))
    for path, change in ((CHAT, {}), (GENERATE, {}), (GENERATE, {"raw": True})):
        answer = sent(path, change | {"options": {"num_predict": 600}}, app)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("'options.num_predict' must be at most")


def test_what_a_grammar_leaves_out_of_a_tool_is_named() -> None:
    """As in chat: the model sees it, and the call is not held to it."""
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    app = create_app(ready_state(fake_engine(), max_model_len=2048))
    ours = sent(CHAT, {"tools": tools, "stream": False}, app)
    assert ours.status_code == 200, ours.text
    assert "uniqueItems" in ours.headers[HEADER]


def test_options_reach_the_engine_as_chats_do(served: Served) -> None:
    """The same request in chat's words: equal prompts, sampling and limits."""
    drawn = {"temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "seed": 7}
    drawn |= {"presence_penalty": 0.5, "frequency_penalty": -0.5}
    drawn |= {"repeat_last_n": 64}
    ours = drawn | {"repetition_penalty": 1.1, "max_tokens": 8, "stop": ["zz"]}
    theirs = drawn | {"repeat_penalty": 1.1, "num_predict": 8, "stop": ["zz"]}
    engine = served.use(fake_engine())
    served.whole("/v1/chat/completions", ASK | ours)
    whole(served, CHAT, ASK | {"options": theirs})
    whole(served, GENERATE, {"prompt": "Hi", "options": theirs})
    first, second, third = engine.requests
    assert first.sampling == second.sampling == third.sampling
    assert first.prompt_token_ids == second.prompt_token_ids == third.prompt_token_ids


def test_without_options_the_models_own_defaults_count(served: Served) -> None:
    own = GenerationDefaults(temperature=0.25, top_k=7, max_tokens=11)
    engine = served.use(fake_engine(), defaults=own)
    whole(served, CHAT, ASK)
    whole(served, CHAT, ASK | {"options": {"num_predict": -1, "top_k": 3}})
    first, second = (request.sampling for request in engine.requests)
    assert (first.temperature, first.top_k, first.max_tokens) == (0.25, 7, 11)
    assert (second.temperature, second.top_k, second.max_tokens) == (0.25, 3, 493)


def test_a_random_seed_is_another_each_time(served: Served) -> None:
    engine = served.use(fake_engine())
    for _ in range(2):
        whole(served, CHAT, ASK | {"options": {"seed": -1}})
    first, second = (request.sampling.seed for request in engine.requests)
    assert first != second


@pytest.mark.parametrize(
    ("wanted", "response_format"),
    [
        ("json", {"type": "json_object"}),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, None),
    ],
)
def test_a_format_is_chats(served: Served, wanted: Any, response_format: Json | None) -> None:
    """The engine is given the grammar that chat would give it, with the template and without."""
    named = {"type": "json_schema", "json_schema": {"name": "n", "schema": wanted}}
    engine = served.use(fake_engine())
    served.whole("/v1/chat/completions", ASK | {"response_format": response_format or named})
    whole(served, CHAT, ASK | {"format": wanted})
    whole(served, GENERATE, GOOD[GENERATE] | {"format": wanted})
    whole(served, GENERATE, GOOD[GENERATE] | {"format": wanted, "raw": True})
    assert engine.requests[0].grammar
    assert len({request.grammar for request in engine.requests}) == 1


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    config = ApiConfig(api_keys=("secret",), requests_per_minute=1)
    with live(ready_state(fake_engine()), config) as url:
        yield url


ROUTES = [
    *(("POST", path) for path in GOOD),
    *(("GET", f"/api/{name}") for name in ("tags", "ps", "version")),
    *(("POST", f"/api/{name}") for name in ("pull", "push", "create", "copy", "blobs/sha256:0")),
    ("DELETE", "/api/delete"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_the_key(locked: str, method: str, path: str) -> None:
    answer = httpx.request(method, locked + path, json=GOOD.get(path, {}), trust_env=False)
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}


def test_rates_hold(locked: str) -> None:
    headers = {"authorization": "Bearer secret"}
    first, second = (
        httpx.post(locked + CHAT, json=ASK, headers=headers, trust_env=False) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (200, 429)
    assert "x-ratelimit-remaining-requests" in first.headers
    assert second.json().keys() == {"error"}


def test_a_foreign_host_is_refused() -> None:
    with live(ready_state(fake_engine()), ApiConfig(allowed_hosts=("localhost",))) as url:
        for method, path in ROUTES:
            answer = httpx.request(method, url + path, json={}, trust_env=False)
            assert answer.status_code == 403
            assert answer.json().keys() == {"error"}


def test_a_model_that_is_not_served(served: Served) -> None:
    for path, body in GOOD.items():
        answer = served.post(path, body | {"model": "llama3"})
        assert answer.status_code == 404
        assert answer.json() == {"error": "No such model; served are: tiny, org/tiny."}


def test_other_errors_have_the_envelope_too(served: Served) -> None:
    assert httpx.get(served.url + CHAT, trust_env=False).json().keys() == {"error"}
    assert httpx.get(served.url + "/api/none", trust_env=False).json() == {
        "error": "Unknown URL: GET /api/none."
    }
    permit = served.state.admission.admit(10**6)
    answer = served.post(CHAT, ASK)
    permit.release()
    assert (answer.status_code, [*answer.json()]) == (429, ["error"])
    assert "retry-after" in answer.headers
