"""Malformed bodies: every one is a 400 or 413 in our envelope, none a 500, none echoed."""

import asyncio
import json
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, COMPLETION, client_of, fake_engine, ready_state
from thirdeye.server.api.field_rules.suggestions import edit_distance
from thirdeye.server.api.http.json_body import MAX_BODY_BYTES, MAX_DEPTH, depth_of
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest
from thirdeye.server.launch.asgi_app import App, create_app

HeaderTypes = dict[str, str] | list[tuple[str, str]]
ROUTES = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
JSON = {"content-type": "application/json"}
FORM = "application/x-www-form-urlencoded"


@cache
def app() -> App:
    """One for all requests, as it is: what is made for each test takes longer than the test."""
    return create_app(ready_state(fake_engine()))


async def post(path: str, data: bytes, headers: HeaderTypes | None = None) -> httpx.Response:
    async with client_of(app()) as client:
        return await client.post(path, content=data, headers=JSON if headers is None else headers)


BAD_BODIES: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "truncated": (b'{"model": "ti', None),
    "trailing comma": (b'{"model": "tiny",}', None),
    "two values": (b"{} {}", None),
    "invalid UTF-8": (b'{"model": "\xff\xfe"}', None),
    "UTF-16": (json.dumps(CHAT).encode("utf-16"), None),
    "UTF-32": (json.dumps(CHAT).encode("utf-32"), None),
    "byte order mark": (b"\xef\xbb\xbf{}", None),
    "high surrogate": (b'{"model": "\\ud800"}', None),
    "low surrogate": (b'{"model": "\\udc00"}', None),
    "two high surrogates": (b'{"model": "\\ud800\\ud800"}', None),
    "surrogate in bytes": (b'{"model": "\xed\xa0\x80"}', None),
    "NaN": (b'{"temperature": NaN}', None),
    "Infinity": (b'{"temperature": -Infinity}', None),
    "1e999": (b'{"temperature": 1e999}', None),
    "integer of 5,000 digits": (b'{"n": ' + b"1" * 5000 + b"}", None),
    "control character": (b'{"model": "\x01"}', None),
    "list": (b"[]", "invalid_type"),
    "string": (b'"x"', "invalid_type"),
    "null": (b"null", "invalid_type"),
    "100,000 lists deep": (b"[" * 100_000, "request_too_large"),
    "50,000 objects deep": (b'{"a":' * 50_000, "request_too_large"),
    "65 levels": (b'{"a":' * 65 + b"1" + b"}" * 65, "request_too_large"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("path", ROUTES)
def test_malformed_bodies_are_refused(path: str, name: str) -> None:
    """The framework lets UTF-16, surrogates and NaN through and answers 422 with an echo."""
    data, code = BAD_BODIES[name]
    answer = asyncio.run(post(path, data))
    assert answer.status_code == 400
    error = check_envelope(answer)
    assert (error["param"], error["code"]) == (None, code)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "multipart/form-data",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded; charset=utf-16",
        "application/jsonp",
        "application/json, text/plain",
    ],
)
def test_other_content_types_are_refused(kind: str) -> None:
    answer = asyncio.run(post(ROUTES[0], json.dumps(CHAT).encode(), {"content-type": kind}))
    assert answer.status_code == 400
    assert "application/json" in check_envelope(answer)["message"]


@pytest.mark.parametrize("headers", [{}, {"content-type": ""}, {"content-type": FORM}])
@pytest.mark.parametrize(
    ("path", "body"), [(ROUTES[0], CHAT), ("/api/chat", CHAT | {"stream": False})]
)
def test_who_is_no_page_need_not_say_that_it_is_json(
    path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    """curl -d says that it is a form, and litellm's Ollama client says nothing. A web page's form
    has an `Origin`, also on a server that does not look at these (it has a key, or any address)."""
    data = json.dumps(body).encode()
    assert asyncio.run(post(path, data, headers)).status_code == 200
    for origin in ("http://localhost", "null"):
        answer = asyncio.run(post(path, data, headers | {"origin": origin}))
        assert answer.status_code in (400, 403)
    two = [("content-type", "text/plain"), ("content-type", "application/json")]
    assert asyncio.run(post(path, data, two)).status_code == 400


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_packed_body_is_refused_by_its_header(coding: str) -> None:
    """It was called invalid JSON, or its header was not looked at."""
    headers = JSON | {"content-encoding": coding}
    answer = asyncio.run(post(ROUTES[0], json.dumps(CHAT).encode(), headers))
    assert answer.status_code == 400
    assert "'Content-Encoding'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; charset=utf8",
    ],
)
def test_json_is_accepted_however_it_is_spelled(kind: str) -> None:
    body = json.dumps(CHAT).encode()
    assert asyncio.run(post(ROUTES[0], body, {"content-type": kind})).status_code == 200


def test_bodies_above_the_limit_are_413() -> None:
    """Row 6: told from the header alone, or while reading when there is no length."""
    large = b'{"model":"' + b"x" * MAX_BODY_BYTES + b'"}'
    answer = asyncio.run(post(ROUTES[0], large))
    assert answer.status_code == 413
    assert check_envelope(answer)["code"] == "request_too_large"

    async def chunked() -> httpx.Response:
        async def pieces() -> Any:
            for _ in range(MAX_BODY_BYTES // 65536 + 1):
                yield b"x" * 65536

        async with client_of(app()) as client:
            return await client.post(ROUTES[0], content=pieces(), headers=JSON)

    assert asyncio.run(chunked()).status_code == 413


def test_a_large_body_below_the_limit_is_read() -> None:
    """3 MB of messages: refused for its tokens, not for its bytes."""
    body = CHAT | {"messages": [{"role": "user", "content": "x" * 3_000_000}]}
    answer = asyncio.run(post(ROUTES[0], json.dumps(body).encode()))
    assert check_envelope(answer)["code"] == "context_length_exceeded"


def test_the_last_of_two_equal_keys_counts() -> None:
    """Decided, so that it does not depend on the parser of the day."""
    data = json.dumps(CHAT)[:-1].encode() + b', "model": "other"}'
    assert asyncio.run(post(ROUTES[0], data)).status_code == 404


def test_depth_is_counted_without_a_stack() -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = {"a": [nested]} if isinstance(nested, int) else [nested]
    assert depth_of(nested) == MAX_DEPTH + 1
    assert depth_of(5) == 0


@settings(deadline=None)
@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_distance_is_a_distance(a: str, b: str) -> None:
    """Against the textbook recursion."""

    def slow(x: str, y: str) -> int:
        if not x or not y:
            return len(x) + len(y)
        return min(slow(x[1:], y) + 1, slow(x, y[1:]) + 1, slow(x[1:], y[1:]) + (x[0] != y[0]))

    assert edit_distance(a, b) == slow(a, b)


NAMES = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, "tools", "zzz"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "tiny", "text", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "5"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


CHANGES = st.lists(
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), min_size=8, max_size=16
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES)
def test_no_json_makes_a_500(changes: list[dict[str, Any]]) -> None:
    """Random values in good requests: 2xx or a 4xx in our envelope, never a bug."""
    check_no_500(changes)


@pytest.mark.prove
@pytest.mark.timeout(1800)
@settings(max_examples=850, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES)
def test_ten_thousand_mutations_make_no_500(changes: list[dict[str, Any]]) -> None:
    check_no_500(changes)


def check_no_500(changes: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with client_of(app()) as client:
            for i, change in enumerate(changes):
                path, good = (ROUTES[i % 2], (CHAT, COMPLETION)[i % 2])
                body = good | change | {"stream": False}
                answer = await client.post(path, content=json.dumps(body).encode(), headers=JSON)
                assert answer.status_code < 500, (path, change, answer.text)
                if answer.status_code != 200:
                    check_envelope(answer)

    asyncio.run(main())
