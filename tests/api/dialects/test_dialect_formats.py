"""Structured output in the Responses and Messages dialects: the engine gets the grammar that chat
would give it, the answer says the format back, and a bad schema is named in the dialect's words."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.support import Served, fake_engine, live, ready_state
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.text.constraints import constraint as grammar

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ASKED: dict[str, Any] = {"model": "tiny", "input": "Hi"}
MESSAGE: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    state = ready_state(fake_engine())
    with live(state) as url:
        yield Served(url, state)


def grammar_of(served: Served, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What the engine was given, and the answer."""
    answer = served.post(path, body)
    assert answer.status_code == 200, answer.text
    assert isinstance(served.state.engine, FakeEngine)
    return served.state.engine.requests[-1].grammar, answer.json()


def named(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "name": "n", "schema": SCHEMA} | fields


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, grammar.json_object()),
        (named(), grammar.json_schema(SCHEMA, is_closed=True)),
        (named(strict=True, description="d"), grammar.json_schema(SCHEMA, is_closed=True)),
    ],
    ids=str,
)
def test_text_format_is_chats_response_format(
    served: Served, wanted: dict[str, Any], made: str
) -> None:
    given, response = grammar_of(served, "/v1/responses", ASKED | {"text": {"format": wanted}})
    assert given == made
    said_back = response["text"]["format"]
    assert said_back.items() >= wanted.items()
    if wanted["type"] == "json_schema":
        assert said_back.keys() == {"type", "name", "description", "schema", "strict"}


def test_output_config_is_chats_response_format(served: Served) -> None:
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    given, _ = grammar_of(served, "/v1/messages", MESSAGE | wanted)
    assert given == grammar.json_schema(SCHEMA, is_closed=True)


BAD = {"type": "object", "properties": {"a": {"type": "strnig"}}}


def test_a_bad_schema_is_named_in_the_dialects_words(served: Served) -> None:
    body = ASKED | {"text": {"format": named(schema=BAD)}}
    error = served.post("/v1/responses", body).json()["error"]
    assert error["code"] == "invalid_schema"
    assert error["param"].startswith("text.format.schema")
    assert f"'{error['param']}'" in error["message"]

    body = ASKED | {"text": {"format": named(name="a b")}}
    assert served.post("/v1/responses", body).json()["error"]["param"] == "text.format.name"

    wanted = {"output_config": {"format": {"type": "json_schema", "schema": BAD}}}
    error = served.post("/v1/messages", MESSAGE | wanted).json()["error"]
    assert "'output_config.format.schema" in error["message"]
