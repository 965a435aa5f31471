"""A gateway's key asks for many callers: each has prefixes, turns and limits of its own."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.api.http.test_errors import check_envelope
from tests.api.support import CHAT, client_over, fake_engine, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.launch.replica import build_app
from thirdeye.server.settings.api_keys import NoGateway, check_gateway
from thirdeye.server.settings.read_settings import read_settings

CHAT_URL = "/v1/chat/completions"
HEADER = "X-Caller"
KEYS = ("front use,gateway fronts-key", "alice use alices-key", "other use,gateway others-key")


def config(**changes: object) -> ApiConfig:
    fields: dict[str, object] = {"api_keys": KEYS, "caller_header": HEADER}
    return ApiConfig(**(fields | changes))  # type: ignore[arg-type]


def ask(
    engine: FakeEngine, asked: Sequence[tuple[str, str | None]], **changes: object
) -> list[httpx.Response]:
    """The same chat request of each key, for each name."""

    async def main() -> list[httpx.Response]:
        async with client_over(ready_state(engine), config(**changes)) as client:
            answers = []
            for key, name in asked:
                headers = {"authorization": f"Bearer {key}"}
                headers |= {} if name is None else {HEADER.lower(): name}
                answers.append(await client.post(CHAT_URL, json=CHAT, headers=headers))
            return answers

    return asyncio.run(main())


def test_two_callers_behind_one_key_share_no_prefix_and_take_turns() -> None:
    engine = fake_engine()
    asked = [
        ("fronts-key", "ann"),
        ("fronts-key", "bob"),
        ("fronts-key", "ann"),
        ("fronts-key", None),
        ("others-key", "ann"),
        ("alices-key", None),
    ]
    assert {answer.status_code for answer in ask(engine, asked)} == {200}
    ann, bob, again, nobody, elsewhere, alice = engine.requests
    assert ann.cache_salt == again.cache_salt
    assert ann.tenant == again.tenant == "front:ann"
    everybody = (ann, bob, nobody, elsewhere, alice)
    assert len({request.cache_salt for request in everybody}) == 5
    assert len({request.tenant for request in everybody}) == 5


def test_two_callers_behind_one_key_are_limited_apart() -> None:
    asked = [("fronts-key", name) for name in ("ann", "ann", "bob")]
    first, second, other = ask(fake_engine(), asked, requests_per_minute=1)
    assert [a.status_code for a in (first, second, other)] == [200, 429, 200]
    assert int(second.headers["retry-after"]) >= 1
    assert other.headers["x-ratelimit-remaining-requests"] == "0"


def test_without_the_option_the_header_is_no_name() -> None:
    engine = fake_engine()
    ask(engine, [("fronts-key", "ann"), ("fronts-key", "bob")], caller_header=None)
    assert [request.tenant for request in engine.requests] == ["front", "front"]


def test_a_key_that_is_no_gateways_may_not_name_anybody() -> None:
    engine = fake_engine()
    (answer,) = ask(engine, [("alices-key", "ann")])
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (403, "insufficient_scope")
    assert HEADER in error["message"]
    assert "'gateway'" in error["message"]
    assert engine.requests == []


def test_no_salt_of_one_caller_is_anothers() -> None:
    """`cache_salt` is any text, and stands behind the caller: no name must end where it may."""
    engine = fake_engine()

    async def main() -> None:
        async with client_over(ready_state(engine), config()) as client:
            for name, salt in ((None, "ann/b"), ("ann", "b"), ("ann:b", ""), (None, ":ann/b")):
                headers = {"authorization": "Bearer fronts-key"}
                headers |= {} if name is None else {HEADER: name}
                body = CHAT | ({"cache_salt": salt} if salt else {})
                assert (await client.post(CHAT_URL, json=body, headers=headers)).is_success

    asyncio.run(main())
    assert len({request.cache_salt for request in engine.requests}) == 4


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\tb", "ä", "x" * 129, "a,b", '"a"'])
def test_what_is_no_name_is_refused_with_the_rule(name: str) -> None:
    engine = fake_engine()

    async def main() -> httpx.Response:
        headers = [
            (b"authorization", b"Bearer fronts-key"),
            (HEADER.encode(), name.encode()),
        ]
        async with client_over(ready_state(engine), config()) as client:
            return await client.post(CHAT_URL, json=CHAT, headers=headers)

    answer = asyncio.run(main())
    error = check_envelope(answer)
    assert (answer.status_code, error["code"]) == (400, "invalid_caller")
    assert HEADER in error["message"]
    assert "1 to 128" in error["message"]
    assert engine.requests == []


def test_two_names_are_refused() -> None:
    """Two parsers may pick different ones."""

    async def main() -> httpx.Response:
        headers = [(b"authorization", b"Bearer fronts-key"), (b"x-caller", b"ann")]
        async with client_over(ready_state(fake_engine()), config()) as client:
            twice = [*headers, (b"x-caller", b"ann")]
            return await client.post(CHAT_URL, json=CHAT, headers=twice)

    assert asyncio.run(main()).status_code == 400


def test_a_header_that_nobody_may_send_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("alice use alices-key\nbob use bobs-key\n")
    settings = read_settings({"api_key_file": file, "caller_header": HEADER})
    with pytest.raises(NoGateway, match="'--caller-header X-Caller': no key has the scope"):
        build_app(settings, ready_state(fake_engine()))
    with pytest.raises(NoGateway):
        check_gateway(HEADER, ())
    check_gateway(HEADER, ("a-key-alone",))  # the only one: there is nobody else to ask for it
    check_gateway(None, ())
