"""Who would be refused whatever is asked hears it before the body is parsed, on every route that
wants a place in the engine."""

import asyncio
import socket
from typing import Any

import httpx
import pytest
from starlette.types import Message

from tests.api.http.test_errors import check_envelope
from tests.api.support import (
    CHAT,
    app_serving,
    client_over,
    fake_engine,
    live,
    post_scope,
    ready_state,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.http.gate import ENGINE_PATHS
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.launch.asgi_app import create_app

CHAT_URL = "/v1/chat/completions"
OTHER_PATHS = {  # what is sent there is parsed, or the engine answers at once
    "/tokenize", "/detokenize", "/apply-template", "/v1/responses/input_tokens",
    "/v1/chat/completions/input_tokens", "/v1/chat/completions/render",
    "/v1/messages/count_tokens", "/api/show",
    "/reset_prefix_cache", "/v1/inspect", "/v1/inspect/vocabulary",
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
}  # fmt: skip
ALIASED = {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/responses"}
KEY = {"Authorization": "Bearer secret"}


def full_house(config: ApiConfig | None = None) -> ServerState:
    state = ready_state(fake_engine(max_num_seqs=2))
    with app_serving(state, config):
        pass
    state.admission.admit(6)
    return state


def ask(
    state: ServerState, config: ApiConfig | None = None, path: str = CHAT_URL, **options: Any
) -> tuple[httpx.Response, str]:
    """The answer to a body that is no JSON, and the metrics."""

    async def main() -> tuple[httpx.Response, str]:
        async with client_over(state, config) as client:
            answer = await client.post(path, content=b"{", **options)
            return answer, (await client.get("/metrics", **options)).text

    return asyncio.run(main())


@pytest.mark.parametrize("path", sorted(ENGINE_PATHS))
def test_a_full_house_refuses_before_the_body_is_parsed(path: str) -> None:
    answer, metrics = ask(full_house(), path=path)
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert f'route="{path}",status="429"' in metrics
    assert 'reason="queue_full"} 1.0' in metrics
    room, _ = ask(ready_state(fake_engine(max_num_seqs=2)), path=path)
    assert room.status_code == 400, room.text


def test_every_documented_route_that_takes_a_body_is_told_apart() -> None:
    paths = create_app(full_house()).openapi()["paths"]
    posts = {path for path, methods in paths.items() if "post" in methods}
    assert posts - ENGINE_PATHS == OTHER_PATHS
    assert ENGINE_PATHS - posts == {path.removeprefix("/v1") for path in ALIASED}


@pytest.mark.parametrize("path", sorted(OTHER_PATHS - {"/reset_prefix_cache"}))
def test_what_wants_no_place_is_read(path: str) -> None:
    answer, _ = ask(full_house(), path=path)
    assert answer.status_code == 400, answer.text


def test_the_key_comes_first() -> None:
    config = ApiConfig(api_keys=("secret",))
    answer, _ = ask(full_house(config), config)
    assert answer.status_code == 401


def test_who_leaves_comes_first() -> None:
    state = full_house()
    state.drain()
    answer, _ = ask(state)
    assert check_envelope(answer)["code"] == "server_draining"


def test_a_key_at_its_limit_is_told_so_before_its_body_is_parsed() -> None:
    config = ApiConfig(api_keys=("secret",), requests_per_minute=1)
    state = ready_state(fake_engine())

    async def main() -> list[httpx.Response]:
        async with client_over(state, config, headers=KEY) as client:
            good = await client.post(CHAT_URL, json=CHAT)
            return [good, await client.post(CHAT_URL, content=b"{")]

    good, refused = asyncio.run(main())
    assert good.status_code == 200
    assert check_envelope(refused)["type"] == "requests"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert state.rates.num_rejected == 1


def test_who_sends_much_and_closes_reads_the_refusal() -> None:
    """A connection that is closed while its client sends is reset, and the answer lost."""
    body = b" " * 3_000_000
    with live(full_house()) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=100) as client:
            client.sendall(
                f"POST {CHAT_URL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert client.recv(100).startswith(b"HTTP/1.1 429 ")


def heard(*messages: Message) -> list[Message]:
    """What is answered to a body in these pieces; the last one comes again and again."""
    sent: list[Message] = []
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0) if len(left) > 1 else left[0]

    async def send(message: Message) -> None:
        sent.append(message)

    with app_serving(full_house()) as app:
        asyncio.run(app(post_scope(CHAT_URL), receive, send))
    return sent


def test_a_body_without_end_is_refused() -> None:
    piece: Message = {"type": "http.request", "body": b"x" * 65536, "more_body": True}
    assert heard(piece)[0]["status"] == 429


def test_nobody_is_told_where_the_client_left() -> None:
    piece: Message = {"type": "http.request", "body": b"x", "more_body": True}
    assert heard(piece, {"type": "http.disconnect"}) == []
