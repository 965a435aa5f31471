"""An app of several models: who answers, what is listed, what an operator may do."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from tests.api.pool.fakes import FakeLoadable, member
from tests.api.support import client_of
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.api.pool.pool_state import PoolState
from thirdeye.server.launch.asgi_app import create_pool_app

Chat = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]
HELLO = [{"role": "user", "content": "Hello"}]


class Pooled:
    """Models `a`, `b` (also `bee*`) and `c`, of which two fit; `a` is pinned if so wished."""

    def __init__(
        self,
        *,
        is_quick: bool = True,
        pins: str = "",
        patterns: tuple[str, ...] = ("bee*",),
        **config: Any,
    ) -> None:
        made = [
            member(
                name,
                is_quick=is_quick,
                is_pinned=name in pins,
                model={"name_patterns": patterns} if name == "b" else {},
            )
            for name in "abc"
        ]
        self.loadables: dict[str, FakeLoadable] = {one.name: loadable for one, loadable in made}
        self.pool = ModelPool([one for one, _ in made], 2, max_waiting=2, max_wait=30)
        self.state = PoolState(self.pool)
        self.state.ready()
        self.app = create_pool_app(self.pool, self.state, ApiConfig(**config))

    def phase(self, name: str) -> str:
        return self.pool.books(self.pool.members[name]).phase


def talk(pooled: Callable[[], Pooled], test: Callable[[Pooled, httpx.AsyncClient], Any]) -> None:
    async def main() -> None:
        served = pooled()
        async with client_of(served.app) as client:
            await test(served, client)
        for loadable in served.loadables.values():
            loadable.may_stop.set()
        await served.pool.close()

    asyncio.run(main())


async def chat(client: httpx.AsyncClient, model: str | None, **fields: Any) -> httpx.Response:
    body = {"messages": HELLO} | ({"model": model} if model else {}) | fields
    return await client.post("/v1/chat/completions", json=body)


BODIES = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 20},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/v1/embeddings": {"input": "Hello"},
    "/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [72]},
    "/v1/inspect": {"prompt": "Hello"},
    "/apply-template": {"messages": HELLO},
    "/api/chat": {"messages": HELLO, "stream": False},
    "/api/generate": {"prompt": "Hello", "stream": False},
    "/api/embed": {"input": "Hello"},
}


@pytest.mark.parametrize("path", BODIES)
def test_every_dialect_is_answered_by_the_model_it_names(path: str) -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        answer = await client.post(path, json=BODIES[path] | {"model": "b"})
        assert answer.status_code == 200, answer.text
        assert [pooled.phase(name) for name in "abc"] == ["absent", "ready", "absent"]
        answer = await client.post(path, json=BODIES[path])
        assert answer.status_code == 200, answer.text
        assert [pooled.phase(name) for name in "abc"] == ["ready", "ready", "absent"]
        wrong = await client.post(path, json=BODIES[path] | {"model": "d"})
        assert wrong.status_code == 404
        assert "a, b, bee*, c" in wrong.text
        assert pooled.pool.in_flight == 0

    talk(Pooled, test)


def test_each_says_what_it_says_whole_and_streamed() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for name, who in [("a", "a"), ("B", "b"), ("bee-2", "b"), ("c:latest", "c"), (None, "a")]:
            whole = await chat(client, name)
            assert whole.json()["choices"][0]["message"]["content"] == f"I am {who}"
            streamed = await chat(client, name, stream=True)
            assert streamed.text.endswith("data: [DONE]\n\n")

    talk(Pooled, test)


def test_a_body_that_is_wrong_loads_nothing() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for content in (b"{", b"[]", b"\xff", b""):
            answer = await client.post(
                "/v1/chat/completions",
                content=content,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 400
        assert (await client.post("/v1/nothing", json={})).status_code == 404
        assert (await client.put("/v1/chat/completions", json={})).status_code == 405
        assert [pooled.phase(name) for name in "abc"] == ["absent"] * 3

    talk(Pooled, test)


def test_a_model_must_be_named_where_the_operator_says_so() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        assert (await chat(client, None)).status_code == 400
        assert pooled.phase("a") == "absent"

    talk(lambda: Pooled(require_model=True), test)


def test_the_list_shows_all_loaded_or_not() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(chat(client, "b"))
        while pooled.phase("b") != "loading":
            await asyncio.sleep(0)
        pooled.pool.members["b"].state.detail = "weights 40%"
        cards = (await client.get("/v1/models")).json()["data"]
        assert [(card["id"], card["state"]) for card in cards] == [
            ("a", "absent"),
            ("b", "loading"),
            ("c", "absent"),
        ]
        assert cards[1]["progress"] == "weights 40%"
        assert all(card["capabilities"] and card["max_model_len"] for card in cards)
        assert (await client.get("/v1/models/b")).json()["state"] == "loading"
        assert len((await client.get("/api/tags")).json()["models"]) == 3
        assert (await client.get("/api/ps")).json()["models"] == []
        assert (await client.post("/api/show", json={"model": "c"})).status_code == 200
        pooled.loadables["b"].may_load.set()
        assert (await waiting).status_code == 200
        (running,) = (await client.get("/api/ps")).json()["models"]
        assert running["name"] == "b:latest"
        assert not running["expires_at"].startswith("9999")
        pooled.pool.books(pooled.pool.members["b"]).keep_alive = 1e300  # an operator's
        (running,) = (await client.get("/api/ps")).json()["models"]
        assert running["expires_at"].startswith("30"), "as long as can be asked for: 1,000 years"

    talk(lambda: Pooled(is_quick=False), test)


def test_a_full_queue_is_told_how_far_the_load_is() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        waiting = [asyncio.create_task(chat(client, "b")) for _ in range(2)]
        while pooled.pool.in_flight < 2:
            await asyncio.sleep(0)
        pooled.pool.members["b"].state.detail = "weights 40%"
        refused = await chat(client, "b")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "weights 40%" in refused.json()["error"]["message"]
        pooled.loadables["b"].may_load.set()
        assert {(await one).status_code for one in waiting} == {200}

    talk(lambda: Pooled(is_quick=False), test)


def test_what_looks_at_an_engine_loads_none() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        assert (await client.get("/props?model=b")).status_code == 503
        await chat(client, "b")
        assert (await client.get("/props?model=b")).json()["model_alias"] == "b"
        assert (await client.get("/v1/loads?model=b&include=core")).status_code == 200
        assert (await client.post("/reset_prefix_cache?model=b")).status_code == 200
        assert (await client.get("/props")).status_code == 503  # of the first, which is absent
        assert (await client.get("/version")).status_code == 200
        assert pooled.phase("a") == "absent"

    talk(Pooled, test)


def test_an_operator_loads_and_unloads() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        loaded = await client.post("/models/load", json={"model": "c"})
        assert loaded.json() == {"success": True, "model": "c", "state": "ready"}
        gone = await client.post("/models/unload", json={"model": "c"})
        assert gone.json()["state"] == "leaving"
        assert (await client.post("/wake_up?model=c")).json()["state"] == "ready"
        assert (await client.post("/sleep?model=c&level=1")).json()["success"] is True
        pinned = await client.post("/sleep?model=a")
        assert pinned.status_code == 400
        assert "pinned" in pinned.text
        assert (await client.post("/models/load", json={"model": "x"})).status_code == 404
        assert pooled.loadables["c"].num_starts == 2

    talk(lambda: Pooled(pins="a"), test)


def test_only_an_operators_key_may() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for path in ("/models/load", "/models/unload", "/sleep", "/wake_up"):
            mine = await client.post(
                path, json={"model": "a"}, headers={"Authorization": "Bearer users-key"}
            )
            assert mine.status_code == 403, path
        ours = await client.post("/wake_up", headers={"Authorization": "Bearer operators-key"})
        assert ours.status_code == 200

    keys = ("u use users-key", "o use,operate operators-key")
    talk(lambda: Pooled(api_keys=keys), test)


def test_ollamas_keep_alive_is_obeyed() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        body = {"model": "b", "messages": HELLO, "stream": False}
        stays = await client.post("/api/chat", json=body | {"keep_alive": "1h30m"})
        assert "x-ignored-params" not in stays.headers
        member = pooled.pool.members["b"]
        assert 5390 < (pooled.pool.seconds_to_sleep(member) or 0) <= 5400
        await client.post("/api/chat", json=body | {"keep_alive": -1})
        assert pooled.pool.seconds_to_sleep(member) is None
        gone = await client.post("/api/generate", json={"model": "b", "keep_alive": 0})
        assert gone.json()["done_reason"] == "unload"
        assert pooled.phase("b") in ("leaving", "asleep")
        loaded = await client.post("/api/generate", json={"model": "b"})
        assert (loaded.json()["done_reason"], pooled.phase("b")) == ("load", "ready")
        wrong = await client.post("/api/chat", json=body | {"keep_alive": "soon"})
        assert (wrong.status_code, "keep_alive" in wrong.text) == (400, True)

    talk(Pooled, test)


def test_a_key_that_may_not_operate_moves_no_model_by_ollamas_words() -> None:
    """Who shares a model neither puts it to sleep under the others nor keeps it for ever."""

    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        user = {"Authorization": "Bearer users-key"}
        operator = {"Authorization": "Bearer operators-key"}
        member = pooled.pool.members["b"]
        body = {"model": "b", "messages": HELLO, "stream": False}
        for wish in (0, -1, "1ms"):
            answer = await client.post("/api/chat", json=body | {"keep_alive": wish}, headers=user)
            assert answer.status_code == 200
            assert answer.headers["x-ignored-params"] == "keep_alive"
            assert pooled.phase("b") == "ready"
            assert pooled.pool.books(member).keep_alive == member.terms.keep_alive
        for path in ("/api/generate", "/api/chat"):
            nothing = {"model": "b", "keep_alive": 0}
            answer = await client.post(path, json=nothing, headers=user)
            assert answer.status_code == 403
            assert pooled.phase("b") == "ready"
        gone = await client.post("/api/generate", json=nothing, headers=operator)
        assert gone.json()["done_reason"] == "unload"
        assert "x-ignored-params" not in gone.headers

    keys = ("u use users-key", "o use,operate operators-key")
    talk(lambda: Pooled(api_keys=keys), test)


def test_what_is_refused_whichever_model_is_named_loads_none() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for path in ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/blobs/sha256:0"):
            refused = await client.post(path, json={"model": "b"})
            assert refused.status_code == 400
            assert "the models that it was started with" in refused.json()["error"]
        assert pooled.phase("b") == "absent"

    talk(Pooled, test)


def test_metrics_have_each_family_once_and_each_models_name() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for name in "ab":
            await chat(client, name)
        text = (await client.get("/metrics")).text
        types = [line for line in text.splitlines() if line.startswith("# TYPE ")]
        assert len(types) == len(set(types))
        for name in "ab":
            ended = f'thirdeye_request_success_total{{finished_reason="stop",model_name="{name}"}}'
            assert f"{ended} 1.0" in text
            answered = f'http_responses_total{{model_name="{name}",route="/v1/chat/completions"'
            assert answered in text
        assert 'thirdeye_model_state{model_name="c",state="absent"} 1.0' in text
        assert "thirdeye_memory_limit_bytes 2.0" in text

    talk(Pooled, test)


def test_a_crash_of_one_is_not_the_servers() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        for name in "ab":
            await chat(client, name)
        pooled.loadables["a"].die("again and again")
        while pooled.phase("a") != ModelPhase.FAILED:
            await asyncio.sleep(0)
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        failed = await chat(client, "a")
        assert (failed.status_code, failed.headers["x-should-retry"]) == (503, "false")
        assert "again and again" not in failed.text
        assert (await chat(client, "b")).status_code == 200
        for name in "bc":
            await chat(client, name)
            pooled.loadables[name].die("too")
        while pooled.phase("c") != ModelPhase.FAILED:
            await asyncio.sleep(0)
        assert (await client.get("/health")).status_code == 503

    talk(Pooled, test)


def test_the_document_and_the_page_are_there() -> None:
    async def test(pooled: Pooled, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        assert "/v1/chat/completions" in document["paths"]
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/docs")).status_code == 200

    talk(Pooled, test)
