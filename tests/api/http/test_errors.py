"""The table of errors: every bad input has one status, one param, one code, one message style."""

import asyncio
import errno
import json
from typing import Any

import httpx
import pytest

from tests.api.support import CHAT, client_over, fake_engine, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.errors import MAX_MESSAGE

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


IMAGE = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}


def schema(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


# (row, route, what is changed in a good request, status, param, code, what the message says)
CHAT_ROWS: list[tuple[Any, ...]] = [
    ("7", {"foo_bar": 1}, 400, "foo_bar", "unknown_parameter", "Unknown parameter 'foo_bar'."),
    ("7 near", {"temperatur": 1}, 400, "temperatur", "unknown_parameter", "'temperature'?"),
    ("7 elsewhere", {"options": {"a": 1}}, 400, "options", "unsupported_parameter",
     "beside the others."),
    ("7 other name", {"n_predict": "1"}, 400, "n_predict", "invalid_type", "'n_predict' must be"),
    ("7 two names", {"n_predict": 1, "max_tokens": 2}, 400, "n_predict", "invalid_value",
     "must equal 'max_tokens'"),
    ("7 null", {"foo_bar": None}, 400, "foo_bar", "unknown_parameter", "foo_bar"),
    ("7 nested", {"stream": True, "stream_options": {"x": 1}}, 400, "stream_options.x",
     "unknown_parameter", "stream_options.x"),
    ("7 message", user("Hi", foo=1), 400, "messages[0].foo", "unknown_parameter", "foo"),
    ("8 store", {"store": 1}, 400, "store", "invalid_type", "a boolean"),
    ("8 tier", {"service_tier": "x"}, 400, "service_tier", "unsupported_value", "'auto'"),
    ("8 template", {"chat_template": "x"}, 400, "chat_template", "unsupported_parameter", "fixed"),
    ("9 messages", {"messages": None}, 400, "messages", "missing_required_parameter", "'messages'"),
    ("9 role", {"messages": [{"content": "x"}]}, 400, "messages[0].role",
     "missing_required_parameter", "role"),
    ("9 content", {"messages": [{"role": "user"}]}, 400, "messages[0].content",
     "missing_required_parameter", "content"),
    ("10", {"model": "gpt-4"}, 404, None, "model_not_found", "served are: tiny, org/tiny."),
    ("11 empty", {"messages": []}, 400, "messages", "array_below_min_length", "at least 1"),
    ("11 many", {"messages": CHAT["messages"] * 4097}, 400, "messages", "array_above_max_length",
     "at most 4096 items, got 4097."),
    ("12 role", {"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role",
     "invalid_value", "must be one of system, developer, user, assistant"),
    ("12 second", {"messages": [*CHAT["messages"], {"role": "model", "content": "x"}]}, 400,
     "messages[1].role", "invalid_value", "must be one of"),
    ("12 function", {"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role",
     "invalid_value", "system, developer, user, assistant, tool"),
    ("13 string", {"temperature": "hot"}, 400, "temperature", "invalid_type",
     "'temperature' must be a number, got string."),
    ("13 coerced", {"temperature": "0.5"}, 400, "temperature", "invalid_type", "got string."),
    ("13 bool", {"n": True}, 400, "n", "invalid_type", "'n' must be an integer, got boolean."),
    ("13 float", {"n": 1.5}, 400, "n", "invalid_type", "'n' must be an integer, got 1.5."),
    ("13 huge", {"n": 1e30}, 400, "n", "invalid_type", "'n' must be an integer, got 1e+30."),
    ("13 zero for false", {"stream": True, "stream_options": {"include_obfuscation": 0}}, 400,
     "stream_options.include_obfuscation", "invalid_type", "must be a boolean, got integer."),
    ("13 int for bool", {"stream": 1}, 400, "stream", "invalid_type", "must be a boolean"),
    ("13 list", {"messages": "Hi"}, 400, "messages", "invalid_type", "an array, got string."),
    ("13 message", {"messages": ["Hi"]}, 400, "messages[0]", "invalid_type", "got string."),
    ("13 int for string", {"metadata": {"a": 1}}, 400, "metadata.a", "invalid_type",
     "must be a string, got integer."),
    ("13 float for string", {"user": 1.5}, 400, "user", "invalid_type", "got number."),
    ("13 content", user(5), 400, "messages[0].content", "invalid_type", "got integer."),
    ("14 high", {"temperature": 3}, 400, "temperature", "decimal_above_max_value",
     "'temperature' must be between 0 and 2, got 3."),
    ("14 low", {"temperature": -0.1}, 400, "temperature", "decimal_below_min_value", "got -0.1."),
    ("14 top_p", {"top_p": 1.5}, 400, "top_p", "decimal_above_max_value", "got 1.5."),
    ("14 positive", {"repetition_penalty": 0}, 400, "repetition_penalty",
     "decimal_below_min_value", "between 0.01 and 100, got 0."),
    ("14 tiny", {"repetition_penalty": 1e-40}, 400, "repetition_penalty",
     "decimal_below_min_value", "got 1e-40."),
    ("15 n 0", {"n": 0}, 400, "n", "integer_below_min_value",
     "'n' must be between 1 and 128, got 0."),
    ("15 n", {"n": 130}, 400, "n", "integer_above_max_value", "got 130."),
    ("15 top_logprobs", {"logprobs": True, "top_logprobs": 99}, 400, "top_logprobs",
     "integer_above_max_value", "between 0 and 20, got 99."),
    ("16 negative", {"max_tokens": -5}, 400, "max_tokens", "integer_below_min_value", "got -5."),
    ("16 zero", {"max_completion_tokens": 0}, 400, "max_completion_tokens",
     "integer_below_min_value", "got 0."),
    ("16 huge", {"min_tokens": 10**18}, 400, "min_tokens", "integer_above_max_value", "between"),
    ("16 seed", {"seed": 2**63}, 400, "seed", "integer_above_max_value", "between"),
    ("18", {"top_logprobs": 2}, 400, "top_logprobs", "invalid_value", "needs 'logprobs': true"),
    ("19 key", {"logit_bias": {"abc": 1}}, 400, "logit_bias", "invalid_value", "'abc'"),
    ("19 id", {"logit_bias": {"99999": 1}}, 400, "logit_bias", "invalid_value", "0 and 259"),
    ("19 value", {"logit_bias": {"5": 500}}, 400, "logit_bias", "invalid_value", "-100 and 100"),
    ("19 many", {"logit_bias": {str(i): 1 for i in range(1025)}}, 400, "logit_bias",
     "object_above_max_properties", "at most 1024"),
    ("20 many", {"stop": ["a"] * 17}, 400, "stop", "array_above_max_length", "at most 16"),
    ("20 long", {"stop": "x" * 257}, 400, "stop", "string_above_max_length", "256"),
    ("20 type", {"stop": [5]}, 400, "stop[0]", "invalid_type", "got integer"),
    ("22", {"function_call": {"name": "f"}}, 400, "function_call", "invalid_value", "'functions'"),
    ("23", {"response_format": {"type": "xml"}}, 400, "response_format.type", "invalid_value",
     "must be 'text', 'json_object' or 'json_schema'."),
    ("24", {"response_format": schema({"properties": {"a": {"type": "int"}}})}, 400,
     "response_format.json_schema.schema", "invalid_schema", "at $.properties.a.type must be one"),
    ("25", {"tool_choice": "required"}, 400, "tool_choice", "invalid_value", "without 'tools'"),
    ("27", user([{"type": "text", "text": "x"}, IMAGE]), 400, "messages[0].content[1]",
     "unsupported_content", "text"),
    ("27 refusal", user([{"type": "refusal", "refusal": "x"}]), 400, "messages[0].content[0]",
     "unsupported_content", "must be a part of type 'text'"),
    ("28", user("x" * 600), 400, "messages", "context_length_exceeded",
     "This model's maximum context length is 512 tokens"),
    ("28 before tokenizing", user("x" * 100_000), 400, "messages", "context_length_exceeded",
     "at least 12"),
    ("31 both", {"continue_final_message": True, "add_generation_prompt": True}, 400,
     "continue_final_message", "invalid_value", "add_generation_prompt"),
    ("31 last", {"continue_final_message": True}, 400, "continue_final_message", "invalid_value",
     "assistant"),
    ("max twice", {"max_tokens": 5, "max_completion_tokens": 6}, 400, "max_tokens",
     "invalid_value", "must equal"),
    ("min_tokens", {"max_tokens": 5, "min_tokens": 6}, 400, "min_tokens", "invalid_value",
     "at most 5"),
    ("stop ids", {"stop_token_ids": [5, 260]}, 400, "stop_token_ids[1]", "invalid_value", "259"),
    ("truncate", {"truncate_prompt_tokens": 0}, 400, "truncate_prompt_tokens", "invalid_value", ""),
    ("metadata", {"metadata": {"k" * 65: "v"}}, 400, None, "string_above_max_length", "64"),
    ("metadata many", {"metadata": {str(i): "v" for i in range(17)}}, 400, "metadata",
     "object_above_max_properties", "16"),
]  # fmt: skip

TEXT_ROWS: list[tuple[Any, ...]] = [
    ("9", {"prompt": None}, 400, "prompt", "missing_required_parameter", "'prompt'"),
    ("11 empty", {"prompt": []}, 400, "prompt", "array_below_min_length", "at least 1"),
    ("11 inner", {"prompt": [[]]}, 400, "prompt[0]", "array_below_min_length", "at least 1"),
    ("11 many", {"prompt": ["x"] * 129}, 400, "prompt", "array_above_max_length", "128"),
    ("13 mixed", {"prompt": ["x", 5]}, 400, "prompt[1]", "invalid_type", "string"),
    ("13 object", {"prompt": {}}, 400, "prompt", "invalid_type", "got object"),
    ("15", {"logprobs": 99}, 400, "logprobs", "integer_above_max_value", "0 and 20, got 99"),
    ("16", {"max_tokens": 0}, 400, "max_tokens", "integer_below_min_value", "without 'echo'"),
    ("n", {"prompt": ["a"] * 9, "n": 128}, 400, "n", "integer_above_max_value",
     "1024, got 128 x 9"),
    ("22 best_of", {"best_of": 2}, 400, "best_of", "unsupported_value", "must equal 'n' (1)"),
    ("22 suffix", {"suffix": "x"}, 400, "suffix", "unsupported_parameter", "fill-in"),
    ("28", {"prompt": "x" * 512}, 400, "prompt", "context_length_exceeded", "512 tokens"),
    ("30 negative", {"prompt": [5, -1]}, 400, "prompt[1]", "invalid_value", "vocabulary"),
    ("30 high", {"prompt": [[1, 2, 3, 260]]}, 400, "prompt[3]", "invalid_value", "259"),
    ("30 second", {"prompt": [[1], [260]]}, 400, "prompt[1][0]", "invalid_value", "259"),
    ("30 huge", {"prompt": [2**31]}, 400, "prompt[0]", "invalid_value", "vocabulary"),
    ("chat's field", {"messages": []}, 400, "messages", "unknown_parameter", "messages"),
]  # fmt: skip


def ask(
    path: str, body: Any, *, engine: FakeEngine | None = None, state: ServerState | None = None,
    config: ApiConfig | None = None, method: str = "POST", **options: Any,
) -> httpx.Response:  # fmt: skip
    """One request in process."""

    async def main() -> httpx.Response:
        async with client_over(state or ready_state(engine or fake_engine()), config) as client:
            return await client.request(method, path, json=body, **options)

    return asyncio.run(main())


def check_envelope(answer: httpx.Response) -> dict[str, Any]:
    """The error object, once its form has been checked."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error.keys() <= {"message", "type", "param", "code", "n_prompt_tokens", "n_ctx"}
    assert isinstance(error["message"], str)
    assert 0 < len(error["message"]) <= MAX_MESSAGE
    assert isinstance(error["code"], str | None)
    return error


@pytest.mark.parametrize(
    ("path", "good", "row"),
    [(CHAT_URL, CHAT, row) for row in CHAT_ROWS]
    + [(TEXT_URL, {"model": "tiny", "prompt": "Hi"}, row) for row in TEXT_ROWS],
    ids=[f"chat {row[0]}" for row in CHAT_ROWS] + [f"text {row[0]}" for row in TEXT_ROWS],
)
def test_each_bad_input_is_refused_by_name(
    path: str, good: dict[str, Any], row: tuple[Any, ...]
) -> None:
    """Status, param and code are the contract's; the engine never sees the request."""
    _, change, status, param, code, says = row
    engine = fake_engine()
    answer = ask(path, good | change, engine=engine)
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert param is None or error["param"] == param
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert engine.requests == []


NEUTRAL = {
    "functions": None, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
    "modalities": ["text"], "store": False, "use_beam_search": False, "length_penalty": 1.0,
    "verbosity": "medium", "reasoning_effort": "none", "stop": None, "n": None, "user": "me",
    "logit_bias": None, "stream_options": None, "metadata": {"a": "b"}, "temperature": None,
    "service_tier": "auto", "safety_identifier": "x", "prompt_cache_key": "x",
    "prompt_cache_retention": "24h", "parallel_tool_calls": True, "audio": None,
    "stop_token_ids": [],
}  # fmt: skip


@pytest.mark.parametrize("name", NEUTRAL)
def test_values_that_ask_for_nothing_pass(name: str) -> None:
    """Rule 2: clients send defaults and nulls for fields they do not use."""
    answer = ask(CHAT_URL, CHAT | {name: NEUTRAL[name]})
    assert answer.status_code == 200, answer.text


def test_all_neutral_values_together_change_nothing() -> None:
    engine = fake_engine()
    state = ready_state(engine)
    ask(CHAT_URL, CHAT | NEUTRAL | {"seed": 1}, state=state)
    ask(CHAT_URL, CHAT | {"seed": 1}, state=state)
    first, second = engine.requests
    assert first.sampling == second.sampling == SamplingParams(max_tokens=493, seed=1)


def test_history_with_the_keys_of_an_answer_is_accepted() -> None:
    """Clients send assistant messages back as they got them."""
    answer = ask(CHAT_URL, CHAT).json()["choices"][0]["message"]
    more = {"audio": None, "function_call": None, "tool_calls": None, "phase": "final"}
    history = [*CHAT["messages"], answer | more, {"role": "user", "content": "And?", "name": None}]
    assert ask(CHAT_URL, CHAT | {"messages": history}).status_code == 200


def test_the_input_is_never_echoed() -> None:
    """An error must not repeat what a caller sent: prompts would end in logs of proxies."""
    secret = "canary-5a1e"
    for change in (
        user([secret]),
        user({"x": secret}),
        {"stop": [[secret]]},
        {"stop": secret * 50},
    ):
        assert secret not in ask(CHAT_URL, CHAT | change).text
    assert secret not in ask(CHAT_URL, CHAT | {"temperature": secret}).text
    assert secret not in ask(TEXT_URL, {"model": "tiny", "prompt": [1, secret]}).text


def test_long_names_do_not_amplify() -> None:
    """An unknown name of a megabyte comes back cut."""
    answer = ask(CHAT_URL, CHAT | {"x" * 1_000_000: 1})
    assert answer.status_code == 400
    assert len(answer.content) < 600


def test_loading_and_draining_are_503_with_retry_after() -> None:
    """Row 36: before the model is there and once the server leaves."""
    loading = ask(CHAT_URL, CHAT, state=ServerState())
    error = check_envelope(loading)
    assert (loading.status_code, error["code"]) == (503, "model_loading")
    assert error["type"] == "server_error"
    assert int(loading.headers["retry-after"]) >= 1
    state = ready_state(fake_engine())
    state.drain()
    draining = ask(CHAT_URL, CHAT, state=state)
    assert check_envelope(draining)["code"] == "server_draining"
    assert draining.headers["connection"] == "close"
    assert int(draining.headers["retry-after"]) >= 1


def test_a_dead_engine_is_503_and_not_worth_a_retry() -> None:
    """Row 39."""
    engine = fake_engine()
    state = ready_state(engine)
    engine.die()
    answer = ask(CHAT_URL, CHAT, state=state)
    assert check_envelope(answer)["code"] == "engine_failed"
    assert answer.headers["x-should-retry"] == "false"
    health = ask("/health", None, state=state, method="GET")
    assert health.status_code == 503
    assert "dead" in check_envelope(health)["message"]


def test_a_full_queue_is_429_with_retry_after() -> None:
    """Row 34."""
    state = ready_state(fake_engine(max_num_seqs=2))
    permit = state.admission.admit(6)
    answer = ask(CHAT_URL, CHAT, state=state)
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["type"] == "server_overloaded"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    permit.release()
    assert ask(CHAT_URL, CHAT, state=state).status_code == 200
    assert state.admission.in_flight == 0


def test_an_engine_error_is_500_with_the_engines_words() -> None:
    answer = ask(CHAT_URL, CHAT, state=ready_state(fake_engine(error_after=2, error="No memory.")))
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert error["message"] == "No memory."


def test_a_bug_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Row 38: the client gets the request id, the log the stack, neither the exception's text."""

    def broken(request: Request) -> list[int]:
        raise RuntimeError(bytes(request.prompt_token_ids[1:8]).decode())

    body = {"model": "tiny", "prompt": "-canary-"}
    answer = ask(TEXT_URL, body, state=ready_state(fake_engine(broken)))
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in error["message"]
    assert "canary" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


NO_MEMORY = (
    MemoryError(),
    OSError(errno.ENOMEM, "canary"),
    RuntimeError("can't start new thread"),
    ExceptionGroup("canary", [ValueError("canary"), MemoryError()]),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=repr)
@pytest.mark.parametrize("url", [TEXT_URL, "/v1/messages", "/api/generate", "/tokenize"])
def test_no_memory_in_this_process_is_503_and_no_bug(
    url: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is met: here while the body is read."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("starlette.requests.Request.stream", full)
    answer = ask(url, {"model": "tiny"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "no memory left for this request" in answer.text
    assert "canary" not in answer.text + caplog.text
    assert "no memory in this process" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/chat", "/health/x", "/V1/models"])
def test_unknown_paths_are_404_in_our_envelope(path: str) -> None:
    """Row 32: the framework's own answer is {"detail": …}."""
    answer = ask(path, None, method="GET")
    assert answer.status_code == 404
    assert check_envelope(answer)["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT_URL, "POST"),
        ("HEAD", CHAT_URL, "POST"),
        ("DELETE", "/health", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/tokenize", "POST"),
    ],
)
def test_wrong_methods_are_405_with_allow(method: str, path: str, allow: str) -> None:
    """Row 32."""
    answer = ask(path, None, method=method)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        assert check_envelope(answer)["code"] == "method_not_allowed"


def test_unknown_model_is_404_at_models_too() -> None:
    answer = ask("/v1/models/org/other", None, method="GET")
    assert answer.status_code == 404
    assert check_envelope(answer)["code"] == "model_not_found"


def test_no_chat_template_names_the_other_route() -> None:
    answer = ask(CHAT_URL, CHAT, state=ready_state(fake_engine(), template=None))
    assert answer.status_code == 400
    assert "/v1/completions" in json.loads(answer.text)["error"]["message"]


def test_the_clients_request_id_comes_back_if_it_is_harmless() -> None:
    good = ask(CHAT_URL, CHAT, headers={"x-request-id": "my-id.1"})
    assert good.headers["x-request-id"] == "my-id.1"
    for bad in ("a b", "x" * 129, 'a"b', ""):
        answer = ask(CHAT_URL, CHAT, headers={"x-request-id": bad})
        assert answer.headers["x-request-id"].startswith("req_")
