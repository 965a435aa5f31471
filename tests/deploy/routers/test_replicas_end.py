"""A replica that is stopped loses nothing behind a router; one that is killed cuts what it was
saying, and our client goes on with it elsewhere."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from queue import Queue
from typing import Any

import httpx
import pytest

from tests.clients.resume.read_stream import read
from tests.deploy.routers.replicas import Replicas, total, wait_for
from tests.deploy.routers.running_router import ROUTERS, RunningRouter
from tests.deploy.routers.test_through_routers import BODY, frames
from tests.e2e.live import LiveServer
from thirdeye.clients import Client

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]
PLAIN = [name for name, router in ROUTERS.items() if not router.is_tls]
FINDING = [name for name, router in ROUTERS.items() if router.finds_prefixes]
NUM_PROBES, NUM_STREAMS = 40, 8
LONG = BODY | {"max_tokens": 600}


@pytest.fixture(autouse=True)
def whole_pair(router: RunningRouter, replicas: Replicas) -> Iterator[None]:
    """Both replicas live before each test, and a router that asks for their readiness has heard."""
    replicas.bring_back()
    if router.asks_readiness:
        before = [times_ready(server) for server in replicas.servers]
        wait_for(
            lambda: all(
                times_ready(server) >= asked + 2
                for server, asked in zip(replicas.servers, before, strict=True)
            ),
            "the router has asked both twice",
        )
    yield
    wait_for(lambda: sum(replicas.running()) == 0, "nothing runs any more")


def times_ready(server: LiveServer) -> float:
    """How often it has said that it is."""
    return total(server, "thirdeye_http_responses_total", 'route="/ready",status="200"')


def unlike(i: int) -> str:
    """A prompt that shares no head with another number's: routers that go by the text tell them
    apart."""
    return sha256(str(i).encode()).hexdigest() * 2


def tale(i: int) -> dict[str, Any]:
    return LONG | {"messages": [{"role": "user", "content": unlike(i)}]}


def probe(router: RunningRouter, text: str, session: str) -> httpx.Response:
    """A short request of somebody else."""
    body = BODY | {
        "messages": [{"role": "user", "content": text}],
        "stream": False,
        "max_tokens": 1,
    }
    return router.post(body, x_session_id=session)


def probe_while(router: RunningRouter, server: LiveServer) -> list[int]:
    """The statuses of probes while the server ends: 40 at least, and one after its end."""
    found: list[int] = []
    while len(found) < NUM_PROBES or server.process.poll() is None:
        found.append(probe(router, unlike(len(found)), session=f"p{len(found)}").status_code)
    found.append(probe(router, "Afterwards", session="afterwards").status_code)
    return found


def busiest(replicas: Replicas) -> LiveServer:
    """A router that goes by the prompt's text may have sent all to one."""
    return max(replicas.servers, key=lambda server: total(server, "vllm:num_requests_running"))


def test_a_stop_with_streams_loses_neither_them_nor_a_probe(
    router: RunningRouter, replicas: Replicas
) -> None:
    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        streams = [pool.submit(frames, router.stream(tale(i))) for i in range(NUM_STREAMS)]
        wait_for(lambda: sum(replicas.running()) == NUM_STREAMS, "all are being told")
        ending = busiest(replicas)
        ending.process.send_signal(signal.SIGTERM)
        assert set(probe_while(router, ending)) == {200}
        assert ending.process.wait() == 0
        for stream in streams:
            assert stream.result(300)[-1]["choices"][0]["finish_reason"] == "length"


def test_a_stop_of_an_idle_replica_loses_no_probe(
    router: RunningRouter, replicas: Replicas
) -> None:
    ending = replicas.servers[0]
    ending.process.send_signal(signal.SIGTERM)
    assert set(probe_while(router, ending)) == {200}
    assert ending.process.wait() == 0


def test_a_killed_replica_cuts_its_streams_and_no_other(
    router: RunningRouter, replicas: Replicas
) -> None:
    """docs/cluster.md says what each client reads; here, that none takes a cut answer for whole."""
    seen: Queue[str] = Queue()

    def story(i: int) -> str:
        text = ""
        try:
            with router.stream(tale(i), x_session_id=f"story {i}") as answer:
                for part in answer.iter_text():
                    if not text:
                        seen.put("begun")
                    text += part
        except httpx.TransportError as error:
            return f"{type(error).__name__}, {'[DONE]' in text}"
        events = [event for event in text.split("\n\n") if event.startswith("data: {")]
        last = json.loads(events[-1].removeprefix("data: "))
        if "error" in last:
            return f"error event {json.dumps(last)[:200]}"
        return str(last["choices"][0]["finish_reason"]) + f", {'[DONE]' in text}"

    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        stories = [pool.submit(story, i) for i in range(NUM_STREAMS)]
        for _ in stories:
            seen.get(timeout=300)
        killed = busiest(replicas)
        num_cut = int(total(killed, "vllm:num_requests_running"))
        killed.kill()
        ends = [story.result(300) for story in stories]
    whole = [end for end in ends if end == "length, True"]
    cut = [end for end in ends if end != "length, True"]
    print(f"cut streams read: {sorted(set(cut))}")
    assert 0 < len(cut) == num_cut
    assert len(whole) == NUM_STREAMS - num_cut
    assert not [end for end in cut if end.startswith(("length", "stop", "None, True"))], cut


@pytest.mark.parametrize("router", PLAIN, indirect=True, scope="module")
def test_our_client_goes_on_behind_the_same_router(
    router: RunningRouter, replicas: Replicas
) -> None:
    params: dict[str, Any] = {"seed": 7, "temperature": 0.8, "max_tokens": 600, "ignore_eos": True}
    with Client(replicas.servers[1].url, model="tiny") as client:
        wholes = [
            read(client.stream_chat(unlike(i), return_token_ids=True, **params)) for i in range(6)
        ]
    with Client([router.url, router.url], model="tiny") as client, ThreadPoolExecutor(6) as pool:
        asked = [
            client.stream_chat(unlike(i), resume=True, return_token_ids=True, **params)
            for i in range(6)
        ]
        found = [pool.submit(read, stream) for stream in asked]
        wait_for(lambda: sum(replicas.running()) == 6, "all are being said")
        busiest(replicas).kill()
        assert [stream.result(300) for stream in found] == wholes


@pytest.mark.parametrize("router", FINDING, indirect=True, scope="module")
def test_a_conversation_stays_where_its_prefix_is(
    router: RunningRouter, replicas: Replicas
) -> None:
    """24 requests in 6 conversations: of 24 prompts 18 could be found again."""
    names = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"

    def sums() -> list[float]:
        return [sum(total(server, name) for server in replicas.servers) for name in names]

    before = sums()
    rules = [f"Conversation {g}. " + f"Rule {g} says so. " * 60 for g in range(6)]
    with ThreadPoolExecutor(3) as pool:
        answers = [
            pool.submit(
                probe, router, f"{rules[i % 6]} Question {i}", session=f"conversation {i % 6}"
            )
            for i in range(24)
        ]
        assert {answer.result().status_code for answer in answers} == {200}
    hits, queries = (after - b for after, b in zip(sums(), before, strict=True))
    print(f"{hits:.0f} of {queries:.0f} prompt tokens were cached")
    assert hits / queries > 0.9 * 18 / 24
