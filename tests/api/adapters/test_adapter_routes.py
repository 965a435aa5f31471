"""Adapters as callers meet them: names of models, in each dialect; and operators, who load them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, client_over, fake_engine, served_model
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapters, warn_of_another_base
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
KEYS = ("boss operate,use boss-key", "alice use alices-key")
GIVEN = "/given/adapter"
Main = Callable[[httpx.AsyncClient, FakeEngine, ServerState], Awaitable[None]]


def served(main: Main, folder: Path | None = None, config: ApiConfig | None = None) -> None:
    """With an adapter `sql` that the operator gave."""

    async def run() -> None:
        engine, adapters = fake_engine(), LoadedAdapters(folder, [GIVEN])
        await adapters.load(engine, "sql", GIVEN, ("tiny",))
        state = ServerState()
        state.ready(engine, served_model(adapters=adapters))
        async with client_over(state, config) as client:
            await main(client, engine, state)

    asyncio.run(run())


def said(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    message: str = check_envelope(answer)["message"]
    return message


def test_an_adapter_is_a_model() -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        cards = {card["id"]: card for card in (await client.get("/v1/models")).json()["data"]}
        assert list(cards) == ["tiny", "org/tiny", "sql"]
        assert (cards["sql"]["root"], cards["sql"]["parent"]) == (GIVEN, "tiny")
        assert (cards["tiny"]["root"], cards["tiny"]["parent"]) == ("tiny", None)
        assert (await client.get("/v1/models/sql")).json() == cards["sql"]
        tags = (await client.get("/api/tags")).json()["models"]
        assert [tag["name"] for tag in tags] == ["tiny:latest", "org/tiny:latest", "sql:latest"]

    served(main)


MESSAGES = [{"role": "user", "content": "hi"}]
DIALECTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9},
    "/api/chat": {"messages": MESSAGES, "stream": False},
    "/api/generate": {"prompt": "hi", "stream": False},
}


@pytest.mark.parametrize("path", DIALECTS)
def test_each_dialect_asks_for_it_by_its_name(path: str) -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, _: object) -> None:
        for model, number in (("sql", 1), ("tiny", 0), ("SQL:latest", 1)):
            answer = await client.post(path, json={"model": model} | DIALECTS[path])
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] in (model, "sql")
            assert engine.requests[-1].adapter == number
        salts = [(request.adapter, request.prefix_salt) for request in engine.requests]
        assert len(set(salts)) == 2
        assert salts[0][1] != salts[1][1]

    served(main)


def test_an_embedding_is_the_adapters() -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, _: object) -> None:
        await client.post("/v1/embeddings", json={"model": "sql", "input": "hi"})
        assert engine.requests[-1].adapter == 1

    served(main)


def test_a_look_inside_is_the_adapters() -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, _: object) -> None:
        for model, number, mark in (("sql", 1, "-abababab"), ("tiny", 0, "")):
            answer = await client.post("/v1/inspect", json={"model": model, "prompt": "a"})
            assert answer.json()["system_fingerprint"] == f"te-test{mark}"
            assert engine.inspections[-1].adapter == number

    served(main)


def test_its_answers_have_a_fingerprint_of_their_own() -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        found = [
            (await client.post("/v1/chat/completions", json=CHAT | {"model": model})).json()
            for model in ("tiny", "sql")
        ]
        prints = [answer["system_fingerprint"] for answer in found]
        assert prints == ["te-test", "te-test-abababab"]

    served(main)


def test_its_receipt_is_replayed_by_it() -> None:
    """And by nobody else: neither by its base, nor by another adapter that has its name later."""

    async def main(client: httpx.AsyncClient, engine: FakeEngine, state: ServerState) -> None:
        async def verdict(receipt: dict[str, Any]) -> tuple[str, str | None]:
            found = (await client.post("/v1/verify", json={"receipt": receipt})).json()
            return found["verdict"], found.get("field")

        asked = CHAT | {"model": "sql", "receipt": True}
        receipt = (await client.post("/v1/chat/completions", json=asked)).json()["receipt"]
        assert receipt["adapter"] == "ab" * 32
        assert receipt["system_fingerprint"] == "te-test-abababab"
        assert await verdict(receipt) == ("equal", None)
        assert engine.requests[-1].adapter == 1
        assert await verdict(receipt | {"model": "tiny"}) == ("not_comparable", "receipt.adapter")
        plain = (await client.post("/v1/chat/completions", json=asked | {"model": "tiny"})).json()
        assert "adapter" not in plain["receipt"]
        lie = plain["receipt"] | {"model": "sql"}
        assert await verdict(lie) == ("not_comparable", "receipt.adapter")
        assert state.model is not None
        loaded = state.model.adapters._by_name
        loaded["sql"] = replace(loaded["sql"], fingerprint="cd" * 32)
        assert await verdict(receipt) == ("not_comparable", "receipt.adapter")
        await client.post(UNLOAD, json={"lora_name": "sql"})
        assert await verdict(receipt) == ("not_comparable", "receipt.model")

    served(main)


def test_what_an_adapter_cannot_have_is_refused_by_name() -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        answer = await client.post("/v1/inspect/vocabulary", json={"model": "sql", "tokens": ["a"]})
        wanted = "'model' must be a model here, and names an adapter: say 'tiny'."
        assert said(answer) == wanted
        assert (await client.post("/tokenize", json={"model": "sql", "prompt": "a"})).is_success

    served(main)


def test_operators_load_and_unload(tmp_path: Path) -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, state: ServerState) -> None:
        assert state.model is not None
        poet = {"lora_name": "poet", "lora_path": "poems"}
        answer = await client.post(LOAD, json=poet)
        assert answer.text == "Success: LoRA adapter 'poet' added successfully."
        assert engine.adapters == {1: GIVEN, 2: str(tmp_path / "poems")}
        chat = CHAT | {"model": "poet"}
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        wanted = "'lora_name' is loaded already: unload it first, or say 'load_inplace'."
        assert said(await client.post(LOAD, json=poet)) == wanted
        answer = await client.post(LOAD, json=poet | {"load_inplace": True})
        assert answer.status_code == 200
        assert list(engine.adapters) == [1, 3]  # it is another now
        answer = await client.post(UNLOAD, json={"lora_name": "poet"})
        assert answer.text == "Success: LoRA adapter 'poet' removed successfully."
        assert list(engine.adapters) == [1]
        wanted = "No such model; served are: tiny, org/tiny, sql."
        assert said(await client.post("/v1/chat/completions", json=chat), 404) == wanted
        wanted = "No such adapter; loaded are: sql."
        assert said(await client.post(UNLOAD, json={"lora_name": "poet"}), 404) == wanted

    served(main, tmp_path)


ELSEWHERE = "'lora_path' must be a folder below '--lora-dir', or one of those given with '--lora'."


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("tiny", "poems", "'lora_name' is a name of the model itself: choose another."),
        ("Tiny:latest", "poems", "'lora_name' is a name of the model itself: choose another."),
        (
            "SQL",
            "poems",
            "'lora_name' is another's but for upper case or ':latest', which do not matter in "
            "requests.",
        ),
        (" ", "poems", "'lora_name' must be 1 to 256 printable characters."),
        ("a\nb", "poems", "'lora_name' must be 1 to 256 printable characters."),
        ("poet", "../poems", ELSEWHERE),
        ("poet", "/etc", ELSEWHERE),
        ("poet", ".", ELSEWHERE),
        ("poet", "link", ELSEWHERE),
        ("poet", "a\0b", ELSEWHERE),
    ],
)
def test_what_is_not_loaded(name: str, path: str, message: str, tmp_path: Path) -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, _: object) -> None:
        answer = await client.post(LOAD, json={"lora_name": name, "lora_path": path})
        assert said(answer) == message
        assert engine.adapters == {1: GIVEN}

    (tmp_path / "link").symlink_to("/etc")
    served(main, tmp_path)


def test_what_the_engine_says_of_its_files(tmp_path: Path) -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        answer = await client.post(LOAD, json={"lora_name": "poet", "lora_path": "broken"})
        assert said(answer) == f"'lora_path': {tmp_path / 'broken'}: is broken."
        assert "poet" not in (await client.get("/v1/models")).text

    served(main, tmp_path)


def test_without_a_folder_those_that_were_given_alone() -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        wanted = (
            "'lora_path' must be one of those given with '--lora': '--lora-dir' names a folder of "
            "more."
        )
        answer = await client.post(LOAD, json={"lora_name": "poet", "lora_path": "/elsewhere"})
        assert said(answer) == wanted
        answer = await client.post(LOAD, json={"lora_name": "again", "lora_path": GIVEN})
        assert answer.status_code == 200

    served(main)


def test_only_operators_may() -> None:
    async def main(client: httpx.AsyncClient, *_: object) -> None:
        for path, body in (
            (LOAD, {"lora_name": "again", "lora_path": GIVEN}),
            (UNLOAD, {"lora_name": "again"}),
        ):
            for key, status in (("alices-key", 403), ("boss-key", 200)):
                headers = {"authorization": f"Bearer {key}"}
                answer = await client.post(path, json=body, headers=headers)
                assert answer.status_code == status

    served(main, config=ApiConfig(api_keys=KEYS))


def test_another_base_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """By its last name; upper case does not matter."""
    for base in ("", "tiny", "org/Tiny", "/models/tiny/"):
        warn_of_another_base("/poems", base, ("tiny", "org/tiny"))
    assert not caplog.records
    warn_of_another_base("/poems", "org/other", ("tiny", "org/tiny"))
    assert "/poems was made for org/other, and is served with tiny" in caplog.text


def test_a_base_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its name is whatever an adapter's file says."""
    warn_of_another_base(
        "/poems", "\u202e\x1b[31m" + "x" * 10_000 + "\nINFO all is well", ("tiny",)
    )
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 1000


def test_a_load_goes_on_when_its_caller_has_left(tmp_path: Path) -> None:
    """Else the engine would have an adapter that nobody can name, or unload."""

    async def main(client: httpx.AsyncClient, engine: FakeEngine, state: ServerState) -> None:
        gate, load_adapter = asyncio.Event(), engine.load_adapter

        async def slowly(source: Any) -> Any:
            await gate.wait()
            return await load_adapter(source)

        engine.load_adapter = slowly  # type: ignore[method-assign]
        body = {"lora_name": "poet", "lora_path": "poems"}
        asked = asyncio.ensure_future(client.post(LOAD, json=body))
        while "poet" not in (loading := _loading(state)):
            await asyncio.sleep(0)
        assert said(await client.post(LOAD, json=body)) == "'lora_name' is being loaded."
        asked.cancel()
        gate.set()
        while "poet" in (loading := _loading(state)):
            await asyncio.sleep(0)
        assert not loading
        assert state.model is not None
        assert state.model.adapters.names == ["sql", "poet"]

    served(main, tmp_path)


def _loading(state: ServerState) -> set[str]:
    assert state.model is not None
    return state.model.adapters._loading


def test_metrics_say_what_is_loaded_and_in_use() -> None:
    async def main(client: httpx.AsyncClient, engine: FakeEngine, _: object) -> None:
        engine.count_adapters(running=[1], waiting=[1, 7])
        text = (await client.get("/metrics")).text
        labels = 'max_lora="0",model_name="tiny",running_lora_adapters="sql"'
        wanted = f'thirdeye_lora_requests_info{{{labels},waiting_lora_adapters="sql,7"}} 1.0'
        assert wanted in text
        assert 'thirdeye_lora_adapters{model_name="tiny"} 1.0' in text

    served(main)
