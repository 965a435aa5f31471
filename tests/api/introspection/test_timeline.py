"""`/v1/timeline` over a real server: live steps, few watchers, and no word of what was said."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.api.support import CHAT, eventually, fake_engine, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.introspection.timeline_route import MAX_WATCHERS, MAX_WATCHERS_OF_KEY
from thirdeye.server.api.state.server_state import ServerState

URL = "/v1/timeline"
SECRET = "canary-7f3b"


@pytest.fixture
def state() -> ServerState:
    return ready_state(fake_engine(says(SECRET)))


@contextmanager
def watching(url: str, key: str = "", **params: object) -> Iterator[httpx.Response]:
    headers = {"x-api-key": key} if key else {}
    with httpx.stream(
        "GET", url + URL, params=params, headers=headers, trust_env=False, timeout=5
    ) as answer:
        yield answer


def lines(answer: httpx.Response, wanted: list[str], count: int) -> None:
    for line in answer.iter_lines():
        wanted.append(line)
        if len([line for line in wanted if line.startswith("data: ")]) == count:
            return


def records(found: list[str]) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in found if line.startswith("data: ")]


def test_steps_come_as_they_happen_and_from_since_on(state: ServerState) -> None:
    message = {"role": "user", "content": SECRET}
    with live(state) as url, watching(url) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: list[str] = []
        reader = threading.Thread(target=lines, args=(answer, found, len(SECRET) + 1))
        reader.start()
        chat = httpx.post(
            url + "/v1/chat/completions", json=CHAT | {"messages": [message]}, trust_env=False
        )
        reader.join(5)
        steps = records(found)
        assert [record["step"] for record in steps] == list(range(len(SECRET) + 1))
        name = chat.json()["id"] + "-0"
        num_tokens = chat.json()["usage"]["prompt_tokens"]
        row = {"request_id": name, "num_cached_tokens": 0}
        assert steps[0]["rows"] == [row | {"num_tokens": num_tokens, "kind": "prefill"}]
        assert steps[1]["rows"] == [row | {"num_tokens": 1, "kind": "decode"}]
        assert [step["finished"] for step in steps[-2:]] == [[], [name]]
        assert SECRET not in "".join(found), "a timeline tells nothing of what was said"
        with watching(url, since=9) as later:
            again: list[str] = []
            lines(later, again, 3)
            assert [record["step"] for record in records(again)] == [9, 10, 11]


def test_the_stream_ends_with_the_engine(state: ServerState) -> None:
    with live(state) as url, watching(url) as answer:
        engine = state.engine
        assert isinstance(engine, FakeEngine)
        eventually(lambda: engine.num_watchers == 1)  # the status comes before the first step
        engine.die()
        assert answer.read() == b"data: [DONE]\n\n"
        again = httpx.get(url + URL, trust_env=False)
        assert (again.status_code, again.json()["error"]["code"]) == (503, "engine_failed")


def test_watchers_are_few_and_leave_their_seats(state: ServerState) -> None:
    with live(state) as url:
        with ExitStack() as stack:
            for _ in range(MAX_WATCHERS):
                assert stack.enter_context(watching(url)).status_code == 200
            refused = httpx.get(url + URL, trust_env=False)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")

        def has_seat() -> bool:
            with watching(url) as answer:
                return answer.status_code == 200

        eventually(has_seat)


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("?since=-1", "since", "invalid_value"),
        ("?since=x", "since", "invalid_value"),
        ("?since=1&since=2", "since", "invalid_value"),
        (f"?since={2**53}", "since", "invalid_value"),
        ("?since=" + "9" * 5000, "since", "invalid_value"),
        ("?until=3", "until", "unknown_parameter"),
    ],
)
def test_queries_are_checked(state: ServerState, query: str, param: str, code: str) -> None:
    with live(state) as url:
        answer = httpx.get(url + URL + query, trust_env=False)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_the_key_is_required_where_keys_are_set(state: ServerState) -> None:
    with live(state, ApiConfig(api_keys=("secret",))) as url:
        assert httpx.get(url + URL, trust_env=False).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        with httpx.stream("GET", url + URL, headers=headers, trust_env=False) as answer:
            assert answer.status_code == 200


def test_a_key_sees_its_own_requests_alone(state: ServerState) -> None:
    """Live and from the past: what another key asked is a number of rows."""
    with live(state, ApiConfig(api_keys=("one", "two"))) as url:
        asked = {}
        for key in ("one", "two", "one"):
            headers = {"x-api-key": key}
            chat = httpx.post(
                url + "/v1/chat/completions", json=CHAT, headers=headers, trust_env=False
            )
            asked[key] = [*asked.get(key, []), chat.json()["id"]]
        num_steps = 3 * (len(SECRET) + 1)
        for key, other in (("one", "two"), ("two", "one")):
            found: list[str] = []
            with watching(url, key) as answer:
                lines(answer, found, num_steps)
            text = "".join(found)
            assert all(name in text for name in asked[key])
            assert not any(name in text for name in asked[other])
            steps = records(found)
            shown = sum(bool(step["rows"]) for step in steps)
            assert shown == len(asked[key]) * (len(SECRET) + 1)
            assert shown + sum(int(str(step["num_hidden_rows"])) for step in steps) == num_steps


def test_the_only_key_there_is_sees_all(state: ServerState) -> None:
    with live(state, ApiConfig(api_keys=("one",))) as url:
        headers = {"x-api-key": "one"}
        body = {"model": "tiny", "prompt": "a"}
        httpx.post(url + "/v1/inspect", json=body, headers=headers, trust_env=False)
        found: list[str] = []
        with watching(url, "one") as answer:
            lines(answer, found, 1)
        assert "inspect-" in records(found)[0]["inspected"]  # type: ignore[operator]


def test_one_key_cannot_take_all_seats(state: ServerState) -> None:
    with live(state, ApiConfig(api_keys=("one", "two"))) as url, ExitStack() as stack:
        for _ in range(MAX_WATCHERS_OF_KEY):
            assert stack.enter_context(watching(url, "one")).status_code == 200
        with watching(url, "one") as refused:
            assert refused.status_code == 429
            assert "for this key" in refused.read().decode()
        with watching(url, "two") as other:
            assert other.status_code == 200
