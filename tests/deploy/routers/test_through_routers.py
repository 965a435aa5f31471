"""What a client sees through a router is what a replica said: streams, ids, refusals, leaving."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.deploy.routers.replicas import Replicas, total, wait_for
from tests.deploy.routers.running_router import RunningRouter

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1200)]
HELLO = [{"role": "user", "content": "Greasy fried noodles"}]
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": HELLO,
    "temperature": 0,
    "stream": True,
    "ignore_eos": True,
}
UNLIKE = {"id", "created", "timings", "system_fingerprint"}  # of each answer, or of each server


def frames(answering: AbstractContextManager[httpx.Response]) -> list[Any]:
    """The events of a stream, as sent but for what differs from one answer to the next."""
    with answering as answer:
        text = "".join(answer.iter_text())
    assert answer.status_code == 200, text
    assert answer.headers["content-type"].startswith("text/event-stream")
    # Between them stand comments, where a busy machine was silent for a while.
    events = [event[6:] for event in text.split("\n\n") if event.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return [{k: v for k, v in json.loads(e).items() if k not in UNLIKE} for e in events]


@pytest.mark.parametrize("more", [{"max_tokens": 200}, {"max_tokens": 20, "logprobs": True}])
def test_a_stream_is_the_replicas(
    router: RunningRouter, replicas: Replicas, more: dict[str, Any]
) -> None:
    direct = frames(replicas.stream(BODY | more))
    assert len(direct) > more["max_tokens"] // 2
    assert frames(router.stream(BODY | more)) == direct


def test_a_whole_answer_is_the_replicas(router: RunningRouter, replicas: Replicas) -> None:
    body = BODY | {"stream": False, "max_tokens": 30}
    sent = [router.post(body), replicas.post(body)]
    assert [answer.status_code for answer in sent] == [200, 200], sent[0].text
    one, other = (answer.json()["choices"] for answer in sent)
    assert one == other


def test_many_streams_at_once_are_all_whole(router: RunningRouter, replicas: Replicas) -> None:
    body = BODY | {"max_tokens": 100}
    direct = frames(replicas.stream(body))
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: frames(router.stream(body)), range(12)))
    assert found == [direct] * 12


def test_who_leaves_is_noticed_by_the_replica(router: RunningRouter, replicas: Replicas) -> None:
    body = BODY | {"max_tokens": 4000, "logprobs": True, "top_logprobs": 20}  # takes long

    def computed() -> float:
        return sum(total(s, "vllm:generation_tokens_total") for s in replicas.servers)

    before = computed()
    with router.stream(body) as answer:
        next(answer.iter_text())
    wait_for(lambda: sum(replicas.running()) == 0, "the answer was left, and nothing runs")
    assert computed() < before + 4000, "it was not computed to its end"


def test_the_request_id_stands_once_and_reaches_the_log(
    router: RunningRouter, replicas: Replicas
) -> None:
    name = f"ours-{uuid4().hex}"
    answer = router.post(BODY | {"stream": False, "max_tokens": 2}, x_request_id=name)
    assert answer.headers.get_list("x-request-id") == [name]
    wait_for(
        lambda: sum(name in server.output for server in replicas.servers) == 1, "a line of the log"
    )


def test_a_refusal_comes_through_with_its_reason(router: RunningRouter) -> None:
    answer = router.post(BODY | {"temperature": 9})
    assert answer.status_code == 400, answer.text
    assert "temperature" in answer.json()["error"]["message"]
