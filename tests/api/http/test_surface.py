"""What stands beside the generation routes: aliases, tokenizer facts, load, leniency, CORS, limits
that the operator sets."""

import asyncio
import json
import logging
from typing import Any

import httpx
import msgspec
import pytest

from tests.api.support import (
    CHAT,
    COMPLETION,
    TEMPLATE,
    client_over,
    fake_engine,
    live,
    ready_state,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.request_scope import MAX_NAME_CHARS, MAX_NAMES, header_list
from thirdeye.server.api.state.server_state import ServerState

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"


def ask(
    method: str,
    path: str,
    body: Any = None,
    config: ApiConfig | None = None,
    *,
    state: ServerState | None = None,
    **options: Any,
) -> httpx.Response:
    async def main() -> httpx.Response:
        async with client_over(state or ready_state(fake_engine()), config) as client:
            return await client.request(method, path, json=body, **options)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body"), [("/chat/completions", CHAT), ("/completions", COMPLETION)]
)
def test_bare_paths_answer_like_those_under_v1(path: str, body: dict[str, Any]) -> None:
    """Clients of llama.cpp's days put no /v1 in front."""
    bare, full = ask("POST", path, body), ask("POST", f"/v1{path}", body)
    assert bare.status_code == full.status_code == 200
    assert bare.json()["choices"] == full.json()["choices"]
    assert ask("POST", path, body, ApiConfig(api_keys=("k",))).status_code == 401


def test_models_are_listed_at_the_bare_path_too() -> None:
    assert ask("GET", "/models").json() == ask("GET", "/v1/models").json()


def test_the_tokenizer_describes_itself() -> None:
    """What lm-eval needs to use this server as its tokenizer."""
    assert ask("GET", "/tokenizer_info").json() == {
        "tokenizer_class": "ByteTokenizer",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "pad_token": None,
        "chat_template": TEMPLATE,
    }


def test_the_load_is_told_in_four_numbers() -> None:
    idle = {"running": 0, "waiting": 0, "kv_usage": 0.0, "server_load": 0}
    assert ask("GET", "/load").json() == idle
    assert ask("GET", "/load", config=ApiConfig(api_keys=("k",))).status_code == 401


def test_the_load_in_the_words_of_sglang() -> None:
    answer = ask("GET", "/v1/loads?include=core,queues&dp_rank=0&format=json").json()
    assert answer.keys() == {
        *("timestamp", "version", "dp_rank_count", "num_accelerators", "loads", "aggregate")
    }
    (rank,) = answer["loads"]
    idle = ("num_running_reqs", "num_waiting_reqs", "num_total_reqs", "num_used_tokens")
    assert [rank[name] for name in (*idle, "token_usage", "dp_rank")] == [0] * 6
    assert (rank["max_total_num_tokens"], rank["max_running_requests"]) == (128 * 16, 8)
    assert answer["aggregate"]["total_tokens"] == rank["num_total_tokens"] == 0
    assert ask("GET", "/v1/loads", config=ApiConfig(api_keys=("k",))).status_code == 401


@pytest.mark.parametrize(("is_operator", "tokens"), [(True, 3 * 16), (False, 8 * 16)])
def test_the_load_is_rounded_for_whom_it_may_tell_too_much(
    is_operator: bool, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fake_engine()
    stats = msgspec.structs.replace(engine.stats(), num_blocks_used=3, num_requests_waiting=2)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    config = ApiConfig(api_keys=("a use key", "b use,operate other"))
    headers = {"x-api-key": "other" if is_operator else "key"}
    answer = ask("GET", "/v1/loads", state=ready_state(engine), config=config, headers=headers)
    (rank,) = answer.json()["loads"]
    assert (rank["num_used_tokens"], rank["token_usage"]) == (tokens, round(tokens / 2048, 4))
    assert rank["num_waiting_reqs"] == answer.json()["aggregate"]["total_reqs"] == 2


@pytest.mark.parametrize(
    ("query", "param"),
    [("include=core,cats", "include"), ("dp_rank=1", "dp_rank"), ("format=prometheus", "format"),
     ("dp_rank=0&dp_rank=2", "dp_rank"), ("all=1", "all")],
)  # fmt: skip
def test_a_load_that_is_not_here_is_refused(query: str, param: str) -> None:
    answer = ask("GET", f"/v1/loads?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "path", ["/v1/models", "/health", "/ready", "/load", "/version", "/tokenizer_info", "/metrics"]
)
def test_head_works_where_get_does(path: str) -> None:
    answer = ask("HEAD", path)
    assert answer.status_code == 200
    assert not answer.content


# leniency

ODD: dict[str, Any] = {
    "foo_bar": 1,
    "zeta": None,
    "stream_options": {"include_usage": True, "x_nested": 1},
    "messages": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
            "m": 2,
        }
    ],
}
LENIENT = ApiConfig(lenient=True)


@pytest.mark.parametrize("stream", [False, True])
def test_lenient_servers_name_what_they_ignored(stream: bool) -> None:
    """In a header, so that streams say it before their first byte; nested fields included."""
    body = CHAT | ODD | {"stream": stream}
    if not stream:
        del body["stream_options"]
    with live(ready_state(fake_engine()), LENIENT) as url:
        answer = httpx.post(url + CHAT_URL, json=body, trust_env=False)
    assert answer.status_code == 200, answer.text
    nested = ", x_nested" if stream else ""
    assert answer.headers["x-ignored-params"] == f"cache_control, foo_bar, m{nested}, zeta"


def test_lenient_answers_to_known_fields_have_no_such_header() -> None:
    assert "x-ignored-params" not in ask("POST", CHAT_URL, CHAT, LENIENT).headers


FUNCTION = {"name": "f", "parameters": {"type": "object"}, "in_function": 1}
NESTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "tools": (
        CHAT_URL,
        CHAT
        | {
            "tools": [{"type": "function", "in_tool": 1, "function": FUNCTION}],
            "tool_choice": {
                "type": "function",
                "in_choice": 1,
                "function": {"name": "f", "in_name": 1},
            },
        },
        "in_choice, in_function, in_name, in_tool",
    ),
    "response_format": (
        CHAT_URL,
        CHAT
        | {
            "response_format": {
                "type": "json_schema",
                "in_format": 1,
                "json_schema": {"name": "n", "schema": {}, "in_schema": 1},
            }
        },
        "in_format, in_schema",
    ),
    "plain format": (
        TEXT_URL,
        COMPLETION | {"response_format": {"type": "text", "in_format": 1}},
        "in_format",
    ),
    "structured_outputs": (
        TEXT_URL,
        COMPLETION | {"structured_outputs": {"regex": "a", "in_outputs": "b"}},
        "in_outputs",
    ),
    "responses": (
        "/v1/responses",
        {
            "model": "tiny",
            "input": [{"role": "user", "content": "Hi", "in_item": 1}],
            "tools": [{"type": "function", **FUNCTION}],
            "tool_choice": {"type": "function", "name": "f", "in_choice": 1},
            "text": {"format": {"type": "text", "in_format": 1}, "in_text": 1},
        },
        "in_choice, in_format, in_function, in_item, in_text",
    ),
    "messages": (
        "/v1/messages",
        {
            "model": "tiny",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "Hi", "in_turn": 1}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "in_tool": 1}],
            "tool_choice": {"type": "auto", "in_choice": 1},
        },
        "in_choice, in_tool, in_turn",
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_leniency_reaches_every_depth(name: str) -> None:
    """Unknown keys inside tools, choices and formats are ignored by name, or refused by path."""
    path, body, ignored = NESTED[name]
    roomy = ready_state(fake_engine(), max_model_len=2048)
    answer = ask("POST", path, body, LENIENT, state=roomy)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-params"] == ignored
    refused = ask("POST", path, body)
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert any(key in message for key in ignored.split(", ")), message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"temperature": 3}, "decimal_above_max_value"),
        ({"structured_outputs": {"regex": 1}}, "invalid_type"),
        ({"response_format": {"type": "xml"}}, "invalid_value"),
        ({"mirostat": 2}, "unsupported_parameter"),
        ({"messages": None}, "missing_required_parameter"),
    ],
)
def test_leniency_lets_no_bad_value_through(change: dict[str, Any], code: str) -> None:
    """Unknown names only; and the error still says what was ignored."""
    answer = ask("POST", CHAT_URL, CHAT | change | {"zzz": 1}, LENIENT)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


def test_ignored_names_cannot_forge_a_header() -> None:
    assert header_list(["a\r\nSet-Cookie: x=1"]) == "a??Set-Cookie??x?1"
    assert header_list(["é, b"]) == "???b"
    many = header_list([f"n{i:03}" * 40 for i in range(100)])
    assert many.endswith(", ...")
    assert len(many) < (MAX_NAME_CHARS + 6) * (MAX_NAMES + 1)


# origins

PAGE = "https://page.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}


def test_by_default_no_page_of_another_origin_is_let_in() -> None:
    answer = ask("OPTIONS", CHAT_URL, headers=PREFLIGHT)
    assert answer.status_code in (403, 405)
    for config in (ApiConfig(), ApiConfig(api_keys=("k",))):
        answer = ask("GET", "/health", config=config, headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("keys", [(), ("k",)])
def test_an_origin_the_operator_names_may_call(keys: tuple[str, ...]) -> None:
    """A preflight carries no key; errors are readable for the page as well."""
    config = ApiConfig(api_keys=keys, cors_origins=(PAGE,))
    preflight = ask("OPTIONS", CHAT_URL, config=config, headers=PREFLIGHT)
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == PAGE
    headers = {"Origin": PAGE, "Authorization": "Bearer k"}
    answer = ask("POST", CHAT_URL, CHAT, config, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    bad = ask("POST", CHAT_URL, {}, config, headers={"Origin": PAGE})
    assert bad.status_code in (400, 401)
    assert bad.headers["access-control-allow-origin"] == PAGE


def test_other_origins_stay_out() -> None:
    config = ApiConfig(cors_origins=(PAGE,))
    foreign = {"Origin": "https://evil.example"}
    refused = ask("OPTIONS", CHAT_URL, config=config, headers=PREFLIGHT | foreign)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "origin_not_allowed"
    answer = ask("POST", CHAT_URL, CHAT, config, headers=foreign)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_all_origins_may_be_let_in() -> None:
    config = ApiConfig(cors_origins=("*",))
    answer = ask("POST", CHAT_URL, CHAT, config, headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == "*"


# the operator's limits

FEW = ApiConfig(max_n=2, max_stop=6)


def test_the_operator_may_lower_n_and_raise_stop() -> None:
    assert ask("POST", CHAT_URL, CHAT | {"n": 2, "stop": ["a"] * 6}, FEW).status_code == 200
    assert ask("POST", CHAT_URL, CHAT | {"n": 128}).status_code == 200
    too_many = ask("POST", TEXT_URL, COMPLETION | {"n": 3}, FEW).json()["error"]
    assert (too_many["param"], too_many["code"]) == ("n", "integer_above_max_value")
    assert too_many["message"] == "'n' must be between 1 and 2, got 3."
    stops = ask("POST", TEXT_URL, COMPLETION | {"stop": ["a"] * 7}, FEW).json()["error"]
    assert (stops["param"], stops["code"]) == ("stop", "array_above_max_length")
    assert stops["message"] == "'stop' must hold at most 6 items, got 7."


@pytest.mark.parametrize(("config", "n", "stop"), [(FEW, 2, 6), (ApiConfig(), 128, 16)])
def test_the_document_shows_the_limits_of_this_server(config: ApiConfig, n: int, stop: int) -> None:
    schemas = ask("GET", "/openapi.json", config=config).json()["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest"):
        text = json.dumps(schemas[name]["properties"])
        assert f'"maximum": {n}, "minimum": 1' in text
        assert f'"maxItems": {stop}' in text
    receipt = json.dumps(schemas["ReceiptParameters"]["properties"]["stop"])
    assert '"maxItems": 64' in receipt


def test_what_is_for_the_log_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """`user` and `metadata` do nothing else; control characters cannot forge a line."""
    caplog.set_level(logging.INFO, "thirdeye.request")
    long = "a" * 512
    ask("POST", CHAT_URL, CHAT | {"user": "me\nx", "metadata": {"team": "a\nb", "long": long}})
    line = next(r.getMessage() for r in caplog.records if r.name == "thirdeye.request")
    logged = json.loads(line.removeprefix("request "))
    assert (logged["user"], logged["metadata"]) == ("me?x", {"team": "a?b", "long": long})


def test_tokens_may_be_called_by_their_ids() -> None:
    """Tokens without text of their own can be told apart; bytes stay exact."""
    body = CHAT | {"logprobs": True, "top_logprobs": 1, "return_tokens_as_token_ids": True}
    first = ask("POST", CHAT_URL, body).json()["choices"][0]["logprobs"]["content"][0]
    assert (first["token"], first["bytes"]) == ("token_id:72", [72])
    assert first["top_logprobs"][0]["token"] == "token_id:72"
    text = COMPLETION | {"logprobs": 1, "return_tokens_as_token_ids": True, "max_tokens": 1}
    lists = ask("POST", TEXT_URL, text).json()["choices"][0]["logprobs"]
    assert lists["tokens"] == ["token_id:72"]
    assert lists["top_logprobs"] == [{"token_id:72": -0.5}]


@pytest.mark.parametrize(
    ("path", "body", "noted"),
    [
        (
            "/v1/responses",
            {"input": "Hi", "user": "u", "metadata": {"a": "b"}, "safety_identifier": "s"},
            {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s"},
        ),
        (
            "/v1/messages",
            {"messages": CHAT["messages"], "max_tokens": 3, "metadata": {"user_id": "u"}},
            {"user": "u"},
        ),
        (TEXT_URL, {"prompt": "Hi", "user": "u"}, {"user": "u"}),
        ("/v1/embeddings", {"input": "Hi", "user": "u"}, {"user": "u"}),
    ],
)
def test_every_dialect_logs_whose_request_it_was(
    path: str, body: dict[str, Any], noted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The other dialects took these fields and forgot them on the way to chat."""
    caplog.set_level(logging.INFO, "thirdeye.request")
    assert ask("POST", path, {"model": "tiny"} | body).status_code == 200
    line = next(r.getMessage() for r in caplog.records if r.name == "thirdeye.request")
    found = json.loads(line.removeprefix("request "))
    assert {name: found[name] for name in noted} == noted
