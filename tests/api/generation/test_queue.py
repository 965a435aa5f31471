"""What the engine refuses or gives up has a status, a code and advice, streamed or not."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.support import (
    CHAT,
    COMPLETION,
    client_over,
    fake_engine,
    live,
    ready_state,
    says,
)
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.engine.interface.types import ErrorCode

CHAT_URL = "/v1/chat/completions"
WORDS = "Waited longer than 30 s."


def answer(engine: FakeEngine, body: dict[str, Any], **config: Any) -> httpx.Response:
    with live(ready_state(engine), ApiConfig(**config)) as url:
        return httpx.post(url + CHAT_URL, json=CHAT | body, trust_env=False, timeout=10)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "kind", "header"),
    [
        (ErrorCode.QUEUE_TIMEOUT, 503, "server_error", ("retry-after", "1")),
        (ErrorCode.OUT_OF_MEMORY, 503, "server_error", ("retry-after", "1")),
        (ErrorCode.REQUEST_TIMEOUT, 503, "server_error", ("x-should-retry", "false")),
        (ErrorCode.REQUEST_TOO_LARGE, 400, "invalid_request_error", None),
        (ErrorCode.INVALID_GRAMMAR, 400, "invalid_request_error", None),
    ],
)
def test_a_request_that_fails_before_its_first_token_has_a_status(
    stream: bool, code: ErrorCode, status: int, kind: str, header: tuple[str, str] | None
) -> None:
    engine = fake_engine(error_after=0, error=WORDS, error_code=code)
    got = answer(engine, {"stream": stream})
    assert got.status_code == status
    error = got.json()["error"]
    assert (error["code"], error["type"], error["message"]) == (str(code), kind, WORDS)
    if header is not None:
        assert got.headers[header[0]] == header[1]


def test_after_a_long_silence_it_is_an_event() -> None:
    """The connection is kept alive first; then the error comes, and [DONE]."""
    engine = fake_engine(delay=0.4, error_after=0, error=WORDS, error_code=ErrorCode.QUEUE_TIMEOUT)
    got = answer(engine, {"stream": True}, sse_ping=0.1)
    assert got.status_code == 200
    assert got.text.startswith(": keepalive\n\n")
    assert '"code":"queue_timeout"' in got.text
    assert got.text.endswith("data: [DONE]\n\n")


def test_a_key_is_a_tenant_and_a_salt() -> None:
    """The engine shares between keys, and finds prefixes within one; it never sees a key."""
    engine = fake_engine(says("x"))

    async def main() -> None:
        async with client_over(ready_state(engine), ApiConfig(api_keys=("one", "two"))) as client:
            for key in ("one", "two", "one"):
                headers = {"Authorization": f"Bearer {key}"}
                for path, body in ((CHAT_URL, CHAT), ("/v1/completions", COMPLETION)):
                    answer = await client.post(path, json=body, headers=headers)
                    assert answer.status_code == 200

    asyncio.run(main())
    tenants = [request.tenant for request in engine.requests]
    salts = [request.cache_salt for request in engine.requests]
    assert tenants[0] == tenants[1] == tenants[4] == tenants[5]
    assert len(set(tenants)) == len(set(salts)) == 2
    assert all(salt == f"{tenant}/" for salt, tenant in zip(salts, tenants, strict=True))
    assert not {"one", "two", ""} & set(tenants)
