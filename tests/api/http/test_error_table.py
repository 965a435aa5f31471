"""The contract's table of errors, row by row, word by word: what a client gets for each mistake.

Each row is one number of the table, a way to make the mistake, and the whole error. Whatever the
row: an envelope with all four keys, a request id, one sentence that repeats nothing secret.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, COMPLETION, client_over, fake_engine, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.types import ErrorCode, Request

CANARY = "canary-7f3a"
CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
INVALID, SERVER = "invalid_request_error", "server_error"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
KEYED = ApiConfig(api_keys=("secret-key",))


@dataclass(frozen=True)
class Row:
    """`change` is made in a good request (None takes a field away), `raw` is sent as it is."""

    number: int
    message: str
    change: dict[str, Any] = field(default_factory=dict)
    status: int = 400
    param: str | None = None
    code: str | None = None
    kind: str = INVALID
    path: str = CHAT_URL
    method: str = "POST"
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    config: ApiConfig | None = None
    engine: Callable[[], FakeEngine] = fake_engine
    prepare: Callable[[ServerState], object] = lambda _: None
    model: dict[str, Any] = field(default_factory=dict)
    details: dict[str, int] = field(default_factory=dict)  # beside the four keys
    answer_headers: dict[str, str] = field(default_factory=dict)  # "*" is any value


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def loading(state: ServerState) -> None:
    state.__init__()  # type: ignore[misc]  # as it was before the model was there


def full(state: ServerState) -> None:
    state.admission.admit(24)


def spent(state: ServerState) -> None:
    state.rates.open("", {}).charge(requests=1, tokens=1)


def dead(state: ServerState) -> None:
    assert isinstance(state.engine, FakeEngine)
    state.engine.die()


def buggy(_: Request) -> list[int]:
    raise RuntimeError(CANARY)


RETRY = {"retry-after": "*"}
ROWS = [
    Row(
        1,
        "The API key is missing: send it in the header 'Authorization: Bearer KEY' "
        "(or 'x-api-key: KEY').",
        status=401,
        config=KEYED,
        answer_headers={"www-authenticate": "Bearer"},
    ),
    Row(
        2,
        "The API key is not accepted.",
        status=401,
        config=KEYED,
        code="invalid_api_key",
        headers={"Authorization": f"Bearer {CANARY}"},
        answer_headers={"www-authenticate": "Bearer"},
    ),
    Row(
        3,
        "The request body is not valid JSON: invalid character (byte 28).",
        raw=b'{"model": "tiny", "prompt": canary-7f3a}',
    ),
    Row(3, "The request body is not valid JSON: it is empty.", raw=b""),
    Row(3, "The request body is not valid JSON: it is not UTF-8.", raw=b'{"model": "\xff"}'),
    Row(
        3,
        "The request body is not valid JSON: invalid character (byte 0).",
        raw='{"model": "tiny"}'.encode("utf-16"),
    ),
    Row(
        3,
        "The request body is not valid JSON: it ends too early, at byte 19.",
        raw=b'{"model": "\\ud800"}',
    ),
    Row(
        3,
        "The request body is not valid JSON: a number is out of range.",
        raw=b'{"temperature": 1e999}',
    ),
    Row(
        3,
        "The request body is not valid JSON: invalid character (byte 16).",
        raw=b'{"temperature": NaN}',
    ),
    Row(4, "The request body must be a JSON object.", raw=b'["canary-7f3a"]', code="invalid_type"),
    Row(
        5,
        "The header 'Content-Type' must be application/json (UTF-8).",
        raw=b"{}",
        headers={"Content-Type": "text/plain"},
    ),
    Row(
        6,
        "The request body must be at most 4194304 bytes, got 5000008.",
        status=413,
        raw=b'{"a":"' + b"x" * 5_000_000 + b'"}',
        code="request_too_large",
    ),
    Row(
        6,
        "The request body must not nest deeper than 64 levels.",
        raw=b'{"a":' * 65 + b"1" + b"}" * 65,
        code="request_too_large",
    ),
    Row(
        7,
        "Unknown parameter 'foo_bar'.",
        {"foo_bar": CANARY},
        param="foo_bar",
        code="unknown_parameter",
    ),
    Row(
        7,
        "Unknown parameter 'temprature', did you mean 'temperature'?",
        {"temprature": 1},
        param="temprature",
        code="unknown_parameter",
    ),
    Row(
        7,
        "Unknown parameter 'max_length', did you mean 'max_tokens'?",
        {"max_length": 9},
        param="max_length",
        code="unknown_parameter",
    ),
    Row(
        8,
        "'audio' is not supported here: answers are text only.",
        {"audio": {"x": CANARY}},
        param="audio",
        code="unsupported_parameter",
    ),
    Row(
        8,
        "'modalities' is not supported here: only ['text'] is.",
        {"modalities": ["audio"]},
        param="modalities",
        code="unsupported_value",
    ),
    Row(
        9,
        "Missing required parameter 'model'.",
        {"model": None},
        config=ApiConfig(require_model=True),
        param="model",
        code="missing_required_parameter",
    ),
    Row(
        9,
        "Missing required parameter 'messages'.",
        {"messages": None},
        param="messages",
        code="missing_required_parameter",
    ),
    Row(
        9,
        "Missing required parameter 'prompt'.",
        {"prompt": None},
        path=TEXT_URL,
        param="prompt",
        code="missing_required_parameter",
    ),
    Row(
        9,
        "Missing required parameter 'input'.",
        {},
        path="/v1/embeddings",
        param="input",
        code="missing_required_parameter",
    ),
    Row(
        10,
        "No such model; served are: tiny, org/tiny.",
        {"model": CANARY},
        status=404,
        code="model_not_found",
    ),
    Row(
        11,
        "'messages' must hold at least 1 item, got 0.",
        {"messages": []},
        param="messages",
        code="array_below_min_length",
    ),
    Row(
        11,
        "'prompt' must hold at least 1 item, got 0.",
        {"prompt": []},
        path=TEXT_URL,
        param="prompt",
        code="array_below_min_length",
    ),
    Row(
        11,
        "'messages' must hold at most 4096 items, got 4097.",
        {"messages": CHAT["messages"] * 4097},
        param="messages",
        code="array_above_max_length",
    ),
    Row(
        12,
        "'messages[0].role' must be one of system, developer, user, assistant, tool, function.",
        {"messages": [{"role": CANARY, "content": "x"}]},
        param="messages[0].role",
        code="invalid_value",
    ),
    Row(
        12,
        "'prompt_cache_retention' must be 'in_memory' or '24h'.",
        {"prompt_cache_retention": CANARY},
        param="prompt_cache_retention",
        code="invalid_value",
    ),
    Row(
        13,
        "'temperature' must be a number, got string.",
        {"temperature": CANARY},
        param="temperature",
        code="invalid_type",
    ),
    Row(13, "'n' must be an integer, got boolean.", {"n": True}, param="n", code="invalid_type"),
    Row(
        14,
        "'temperature' must be between 0 and 2, got 3.",
        {"temperature": 3},
        param="temperature",
        code="decimal_above_max_value",
    ),
    Row(
        14,
        "'temperature' must be between 0 and 2, got -0.1.",
        {"temperature": -0.1},
        param="temperature",
        code="decimal_below_min_value",
    ),
    Row(
        14,
        "'top_p' must be between 0 and 1, got 1.5.",
        {"top_p": 1.5},
        param="top_p",
        code="decimal_above_max_value",
    ),
    Row(
        15,
        "'n' must be between 1 and 128, got 0.",
        {"n": 0},
        param="n",
        code="integer_below_min_value",
    ),
    Row(
        15,
        "'n' must be between 1 and 128, got 130.",
        {"n": 130},
        param="n",
        code="integer_above_max_value",
    ),
    Row(
        15,
        "'logprobs' must be between 0 and 20, got 99.",
        {"logprobs": 99},
        path=TEXT_URL,
        param="logprobs",
        code="integer_above_max_value",
    ),
    Row(
        15,
        "'top_logprobs' must be between 0 and 20, got 99.",
        {"logprobs": True, "top_logprobs": 99},
        param="top_logprobs",
        code="integer_above_max_value",
    ),
    Row(
        16,
        "'max_tokens' must be at least 1, got -5.",
        {"max_tokens": -5},
        param="max_tokens",
        code="integer_below_min_value",
    ),
    Row(
        16,
        "'max_tokens' must be at least 1 without 'echo', got 0.",
        {"max_tokens": 0},
        path=TEXT_URL,
        param="max_tokens",
        code="integer_below_min_value",
    ),
    Row(
        16,
        "'min_tokens' must be between 0 and 2147483647, got a larger number.",
        {"min_tokens": 10**30},
        param="min_tokens",
        code="integer_above_max_value",
    ),
    Row(
        16,
        "'seed' must be between -9223372036854775808 and 9223372036854775807, got a larger number.",
        {"seed": 2**70},
        param="seed",
        code="integer_above_max_value",
    ),
    Row(
        17,
        "'max_tokens' must be at most 493, got 500: the context is 512 tokens and "
        "the prompt takes 19.",
        {"max_tokens": 500},
        config=ApiConfig(strict_max_tokens=True),
        param="max_tokens",
        code="integer_above_max_value",
    ),
    Row(
        18,
        "'top_logprobs' needs 'logprobs': true.",
        {"top_logprobs": 2},
        param="top_logprobs",
        code="invalid_value",
    ),
    Row(
        19,
        "'logit_bias' must have token ids as keys, got 'abc'.",
        {"logit_bias": {"abc": 1}},
        param="logit_bias",
        code="invalid_value",
    ),
    Row(
        19,
        "'logit_bias' must be a token id between 0 and 259, got 99999.",
        {"logit_bias": {"99999": 1}},
        param="logit_bias",
        code="invalid_value",
    ),
    Row(
        19,
        "'logit_bias' must be between -100 and 100 for token '5'.",
        {"logit_bias": {"5": 500}},
        param="logit_bias",
        code="invalid_value",
    ),
    Row(
        20,
        "'stop' must hold at most 16 items, got 17.",
        {"stop": ["a"] * 17},
        param="stop",
        code="array_above_max_length",
    ),
    Row(
        21,
        "'prompt_logprobs' cannot be streamed: leave out 'stream'.",
        {"prompt_logprobs": 1, "stream": True},
        param="prompt_logprobs",
        code="invalid_value",
    ),
    Row(
        22,
        "'best_of' must equal 'n' (2).",
        {"n": 2, "best_of": 3},
        path=TEXT_URL,
        param="best_of",
        code="unsupported_value",
    ),
    Row(
        22,
        "'suffix' is not supported here: there is no fill-in-the-middle.",
        {"suffix": CANARY},
        path=TEXT_URL,
        param="suffix",
        code="unsupported_parameter",
    ),
    Row(
        22,
        "'functions' cannot go with 'tool_choice': it is the older form of 'tools'.",
        {"functions": [{"name": "f", "description": CANARY}], "tool_choice": "auto"},
        param="functions",
        code="invalid_value",
    ),
    Row(
        22,
        "'function_call' must be 'none' or 'auto' without 'functions'.",
        {"function_call": {"name": CANARY}},
        param="function_call",
        code="invalid_value",
    ),
    Row(
        23,
        "'response_format.type' must be 'text', 'json_object' or 'json_schema'.",
        {"response_format": {"type": CANARY}},
        param="response_format.type",
        code="invalid_value",
    ),
    Row(
        24,
        "'response_format.json_schema.schema' at $.type must be one of string, "
        "number, integer, boolean, null, array, object, or a list of them.",
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": 5}},
            }
        },
        param="response_format.json_schema.schema",
        code="invalid_schema",
    ),
    Row(
        24,
        "'structured_outputs.regex' cannot be compiled.",
        {"structured_outputs": {"regex": f"({CANARY}"}},
        param="structured_outputs.regex",
        code="invalid_schema",
    ),
    Row(
        24,
        "'structured_outputs.regex' must be at most 4096 bytes long, got 5000.",
        {"structured_outputs": {"regex": "a" * 5000}},
        param="structured_outputs.regex",
        code="invalid_schema",
    ),
    Row(
        25,
        "'tool_choice' must be 'none' or 'auto' without 'tools'.",
        {"tool_choice": "required"},
        param="tool_choice",
        code="invalid_value",
    ),
    Row(
        25,
        "'tool_choice' must name one of the tools: f.",
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": CANARY}}},
        param="tool_choice",
        code="invalid_value",
    ),
    Row(
        26,
        "'tools' cannot be used: model 'tiny' has no chat template.",
        {"tools": TOOLS},
        model={"template": None},
        param="tools",
        code="tools_not_supported",
    ),
    Row(
        27,
        "'messages[0].content[1]' must be a part of type 'text': text is all it reads.",
        user([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": CANARY}}]),
        param="messages[0].content[1]",
        code="unsupported_content",
    ),
    *(
        Row(
            27,
            "'messages[0].content[0]' must be a part of type 'text': text is all it reads.",
            user([{"type": kind, kind: {"data": CANARY}}]),
            param="messages[0].content[0]",
            code="unsupported_content",
        )
        for kind in ("input_audio", "file")
    ),
    Row(
        28,
        "This model's maximum context length is 512 tokens. However, your prompt has"
        " 617 tokens, and the answer needs room too. Shorten 'messages'.",
        user("x" * 600),
        param="messages",
        code="context_length_exceeded",
        details={"n_prompt_tokens": 617, "n_ctx": 512},
    ),
    Row(
        28,
        "This model's maximum context length is 512 tokens. However, your prompt has"
        " 600 tokens, and the answer needs room too. Shorten 'prompt'.",
        {"prompt": [5] * 600},
        path=TEXT_URL,
        param="prompt",
        code="context_length_exceeded",
        details={"n_prompt_tokens": 600, "n_ctx": 512},
    ),
    Row(
        29,
        "It needs 900 tokens of KV memory, there are 800.",
        {},
        engine=lambda: fake_engine(
            error_after=0,
            error="It needs 900 tokens of KV memory, there are 800.",
            error_code=ErrorCode.REQUEST_TOO_LARGE,
        ),
        param="max_tokens",
        code="request_too_large",
    ),
    Row(
        30,
        "'prompt[1][3]' must be a token id between 0 and 259, got 260.",
        {"prompt": [[1], [1, 2, 3, 260]]},
        path=TEXT_URL,
        param="prompt[1][3]",
        code="invalid_value",
    ),
    Row(
        30,
        "'prompt[1][0]' must be a token id of the vocabulary.",
        {"prompt": [[1], [-1]]},
        path=TEXT_URL,
        param="prompt[1][0]",
        code="invalid_value",
    ),
    Row(
        31,
        "'continue_final_message' cannot go with 'add_generation_prompt': true.",
        {"continue_final_message": True, "add_generation_prompt": True},
        param="continue_final_message",
        code="invalid_value",
    ),
    Row(
        31,
        "'continue_final_message' needs an assistant message at the end.",
        {"continue_final_message": True},
        param="continue_final_message",
        code="invalid_value",
    ),
    Row(32, "Unknown URL: POST /v1/nothing.", status=404, path="/v1/nothing", code="unknown_url"),
    Row(
        32,
        "Method not allowed: DELETE /v1/chat/completions. Allowed: POST.",
        status=405,
        method="DELETE",
        code="method_not_allowed",
        answer_headers={"allow": "POST"},
    ),
    Row(
        33,
        "The limit of 1 requests a minute is reached for this key. Try again in 1m0s.",
        status=429,
        kind="requests",
        code="rate_limit_exceeded",
        config=ApiConfig(requests_per_minute=1),
        prepare=spent,
        answer_headers={
            **RETRY,
            "x-ratelimit-limit-requests": "1",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "*",
        },
    ),
    Row(
        33,
        "The limit of 1 tokens a minute is reached for this key. Try again in 1m0s.",
        status=429,
        kind="tokens",
        code="rate_limit_exceeded",
        config=ApiConfig(tokens_per_minute=1),
        prepare=spent,
        answer_headers={**RETRY, "x-ratelimit-limit-tokens": "1"},
    ),
    Row(
        34,
        "The queue is full: 16 requests are waiting. Try again in 1 s.",
        status=429,
        kind="server_overloaded",
        code="rate_limit_exceeded",
        prepare=full,
        answer_headers=RETRY,
    ),
    Row(
        35,
        "The request waited 30 s in the queue and was not begun.",
        status=503,
        kind=SERVER,
        code="queue_timeout",
        engine=lambda: fake_engine(
            error_after=0,
            error="The request waited 30 s in the queue and was not begun.",
            error_code=ErrorCode.QUEUE_TIMEOUT,
        ),
        answer_headers=RETRY,
    ),
    Row(
        36,
        "Loading model: starting.",
        status=503,
        kind=SERVER,
        code="model_loading",
        prepare=loading,
        answer_headers=RETRY,
    ),
    Row(
        36,
        "The server is shutting down and takes no new requests.",
        status=503,
        kind=SERVER,
        code="server_draining",
        prepare=ServerState.drain,
        answer_headers={**RETRY, "connection": "close"},
    ),
    Row(
        38,
        "The server failed on this request; its log has the details under my-id.",
        status=500,
        kind=SERVER,
        code="internal_error",
        engine=lambda: fake_engine(buggy),
    ),
    Row(
        39,
        "The engine has failed and this server cannot answer any more.",
        status=503,
        kind=SERVER,
        code="engine_failed",
        prepare=dead,
        answer_headers={"x-should-retry": "false"},
    ),
]
IDS = [f"{row.number} {row.code} {i}" for i, row in enumerate(ROWS)]
GOOD = {CHAT_URL: CHAT, TEXT_URL: COMPLETION, "/v1/embeddings": {"model": "tiny"}}


def send(row: Row) -> httpx.Response:
    body = {k: v for k, v in (GOOD.get(row.path, {}) | row.change).items() if v is not None}
    data = json.dumps(body).encode() if row.raw is None else row.raw
    headers = {"Content-Type": "application/json", "X-Request-Id": "my-id"} | row.headers

    async def main() -> httpx.Response:
        state = ready_state(row.engine(), **row.model)
        async with client_over(state, row.config) as client:
            row.prepare(state)
            return await client.request(row.method, row.path, content=data, headers=headers)

    return asyncio.run(main())


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_row_of_the_table(row: Row) -> None:
    answer = send(row)
    error = check_envelope(answer)
    assert answer.status_code == row.status
    assert error == {
        "message": row.message,
        "type": row.kind,
        "param": row.param,
        "code": row.code,
        **row.details,
    }
    assert answer.headers["x-request-id"] == "my-id"
    assert CANARY not in answer.text
    for name, value in row.answer_headers.items():
        assert answer.headers[name] == value or value == "*"


def test_the_table_is_whole() -> None:
    """37 is the connection's (`test_guard.py`)."""
    assert {row.number for row in ROWS} == set(range(1, 40)) - {37}
