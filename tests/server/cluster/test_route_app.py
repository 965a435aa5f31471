"""What HAProxy reads: a flat JSON object with the replica's name, by session, body or its head."""

import asyncio
import json

import httpx
import pytest

from thirdeye.server.cluster.picking.affinity_key import affinity_key
from thirdeye.server.cluster.picking.asking_picker import AskingPicker
from thirdeye.server.cluster.picking.picker import Picker, Report
from thirdeye.server.cluster.picking.replica_ring import ReplicaRing
from thirdeye.server.cluster.picking.route_app import RouteApp

NAMES = [f"SERVE_REPLICA::default#thirdeye#{i}" for i in range(4)]
RING = ReplicaRing(NAMES)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


def route(bodies: list[bytes], headers: dict[str, str] | None = None) -> list[httpx.Response]:
    picker = AskingPicker(Picker(idle_below=100))
    picker.update({name: Report() for name in NAMES}, {})
    return asyncio.run(ask(RouteApp(picker, clock=lambda: 1.0), bodies, headers or {}))


async def ask(app: RouteApp, bodies: list[bytes], headers: dict[str, str]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://picker") as client:
        return [
            await client.post("/internal/route", content=body, headers=headers) for body in bodies
        ]


def owner(key: bytes | None) -> str:
    assert key is not None
    return next(RING.from_key(key))


def test_the_answer_is_what_haproxy_reads() -> None:
    (answer,) = route([json.dumps(CHAT).encode()])
    assert answer.status_code == 200
    assert answer.json() == {"replica_id": owner(affinity_key(CHAT))}
    assert answer.headers["content-type"] == "application/json"


def test_a_session_goes_before_the_body() -> None:
    answers = route([json.dumps(CHAT).encode(), b"{}", b"no JSON"], {"x-session-id": "mine"})
    assert {answer.json()["replica_id"] for answer in answers} == {owner(affinity_key({}, "mine"))}


def test_of_a_cut_body_its_beginning_counts() -> None:
    long = json.dumps({"messages": [{"role": "user", "content": "word " * 9000}]}).encode()
    headers = {"x-body-truncated": f"20000/{len(long)}"}
    answers = route([long[:20000], long[:30000]], headers)
    assert len({answer.json()["replica_id"] for answer in answers}) == 1


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'"text"', b"[" * 5000, b"{}", b"\xff"])
def test_a_body_without_a_key_is_sent_on_all_the_same(body: bytes) -> None:
    """The replica says what is wrong with it; here they are spread."""
    answers = route([body] * 4)
    assert {answer.json()["replica_id"] for answer in answers} == set(NAMES)


def test_without_a_replica_it_says_so() -> None:
    (answer,) = asyncio.run(ask(RouteApp(AskingPicker(Picker())), [b"{}"], {}))
    assert answer.status_code == 503


def test_its_life_begins_and_ends() -> None:
    async def main() -> list[str]:
        events = iter(["lifespan.startup", "lifespan.shutdown"])
        said: list[str] = []

        async def receive() -> dict[str, str]:
            return {"type": next(events)}

        async def send(message: dict[str, str]) -> None:
            said.append(message["type"])

        await RouteApp(AskingPicker(Picker()))({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
        return said

    assert asyncio.run(main()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
