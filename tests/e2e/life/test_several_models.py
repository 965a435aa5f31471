"""Several models in one server, with real engines: loaded, asleep, pushed out, killed."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest

from tests.draws import also_at_night, is_night
from tests.e2e.live import LiveServer
from tests.e2e.procfs import is_running, seconds_until
from tests.tiny import tiny_llama
from thirdeye.server.launch.several.giving_way import may_take_back, threads_of

CONTEXT = 8192
NAMES = ("first", "second", "third")
LIMIT = 280.0  # seconds, for a load on a machine that does much else
COMMON = ["--kv-memory", "0.05", "--threads", "1", "--speculation", "off", "--keep-alive", "-1"]
COMMON += ["--load-timeout", str(LIMIT)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("several")
    for seed, name in enumerate(NAMES):
        tiny_llama(folder / name, seed=seed, context=CONTEXT)
    return [f"{name}={folder / name}" for name in NAMES]


@pytest.fixture(scope="module")
def server(checkpoints: list[str]) -> Iterator[LiveServer]:
    """Two of the three fit."""
    server = LiveServer([*checkpoints, *COMMON, "--memory", "1.1"]).start()
    yield server
    assert server.stop() == 0
    assert server.engines() == []


@pytest.fixture(scope="module")
def second(server: LiveServer) -> int:
    """The engine of the second model, loaded by a request."""
    assert states(server) == {"first": "ready", "second": "absent", "third": "absent"}
    (first,) = server.engines()
    complete(server, "second")
    (second,) = set(server.engines()) - {first}
    return second


@pytest.fixture
def first(server: LiveServer, second: int) -> int:
    """The engine of the first one, beside it."""
    (first,) = set(server.engines()) - {second}
    return first


def body(model: str, num_tokens: int, **fields: object) -> dict[str, object]:
    what = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}
    return {"model": model, "max_tokens": num_tokens, **what, **fields}


def complete(server: LiveServer, model: str, num_tokens: int = 8) -> str:
    url = server.url + "/v1/completions"
    answer = httpx.post(url, json=body(model, num_tokens), trust_env=False, timeout=LIMIT)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def states(server: LiveServer) -> dict[str, str]:
    cards = httpx.get(server.url + "/v1/models", trust_env=False, timeout=60).json()["data"]
    return {card["id"]: card["state"] for card in cards if card["id"] in NAMES}


def post(server: LiveServer, path: str) -> httpx.Response:
    return httpx.post(server.url + path, json={}, trust_env=False, timeout=LIMIT)


def streamed(
    server: LiveServer,
    model: str,
    num_tokens: int,
    at: dict[int, object],
    leave: Event | None = None,
) -> str:
    """The joined text; with the n-th event comes a call of `at[n]`. Whoever may leave does then."""
    texts, what = [], body(model, num_tokens, stream=True)
    url = server.url + "/v1/completions"
    with httpx.stream("POST", url, json=what, trust_env=False, timeout=LIMIT) as answer:
        for line in answer.iter_lines():
            if leave is not None and leave.is_set():
                break
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                return str(event["error"]["code"])
            texts.append(event["choices"][0]["text"])
            if callable(call := at.get(len(texts))):
                call()
    return "".join(texts)


def test_a_kill_of_one_is_not_felt_by_the_other(server: LiveServer, first: int) -> None:
    alone, before = complete(server, "second", 600), complete(server, "first")
    with ThreadPoolExecutor(1) as pool:
        begun = Event()
        cut = pool.submit(streamed, server, "first", CONTEXT - 64, {1: begun.set})
        assert begun.wait(LIMIT)
        killed = streamed(server, "second", 600, {50: lambda: os.kill(first, signal.SIGKILL)})
        assert killed == alone
        assert cut.result(timeout=LIMIT) == "model_loading"  # another is on its way
    seconds_until(lambda: len(server.engines()) == 2)  # it comes back by itself
    seconds_until(lambda: post(server, "/reset_prefix_cache?model=first").status_code == 200)
    assert complete(server, "first") == before  # bit for bit, by another process
    assert states(server)["first"] == "ready"


@pytest.mark.skipif(not may_take_back(), reason="a priority given away here does not come back")
def test_a_flooded_model_computes_behind_the_other(
    server: LiveServer, first: int, second: int
) -> None:
    alone = complete(server, "second", 100)

    def policies() -> list[set[int]]:
        pids = (first, second, server.process.pid)
        return [{os.sched_getscheduler(one) for one in threads_of(pid)} for pid in pids]

    seen, leave = [], Event()
    with ThreadPoolExecutor(4) as pool:
        begun = [Event() for _ in range(4)]
        flood = [
            pool.submit(streamed, server, "first", 6000, {1: event.set}, leave) for event in begun
        ]
        assert all(event.wait(LIMIT) for event in begun)
        text = streamed(server, "second", 100, {20: lambda: seen.append(policies())})
        metrics = httpx.get(server.url + "/metrics", trust_env=False, timeout=60).text
        assert not any(one.done() for one in flood)
        leave.set()
    assert text == alone
    assert seen == [[{os.SCHED_IDLE}, {os.SCHED_OTHER}, {os.SCHED_OTHER}]]
    assert 'thirdeye_model_gives_way{model_name="first"} 1.0' in metrics


@also_at_night
def test_loaded_by_a_request_asleep_and_pushed_out(server: LiveServer, second: int) -> None:
    """It comes last: the second model's engine is another then. (At a push one that was asleep is
    waked up in `tests/api/pool/test_model_pool.py`, over fake engines.)"""
    alone = complete(server, "second")
    assert complete(server, "first") != alone
    (first,) = set(server.engines()) - {second}

    complete(server, "third")  # the least recently used makes room
    assert states(server) == {"first": "ready", "second": "asleep", "third": "ready"}
    assert len(server.engines()) == 2
    assert is_running(first)
    assert not is_running(second)

    assert post(server, "/sleep?model=first").status_code == 200
    seconds_until(lambda: states(server)["first"] == "asleep")
    assert not is_running(first)
    if is_night():
        assert complete(server, "second") == alone  # bit for bit, by another process
        assert post(server, "/wake_up?model=second").json()["state"] == "ready"


@pytest.mark.prove
def test_what_does_not_fit_is_refused_before_it_is_loaded(checkpoints: list[str]) -> None:
    """At a push: `tests/server/launch/several/test_model_specs.py`, without a process."""
    with pytest.raises(RuntimeError, match=r"'--memory': first takes 0\.\d+ GiB"):
        LiveServer([*checkpoints, *COMMON, "--memory", "0.3"]).start()
