"""The server does with a field what the table of docs/api.md says: cells drawn from the page, asked
over HTTP, each with values of its kind."""

import json
import re
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from tests.api.requests import rule_table
from tests.api.requests.client_requests import (
    CHAT_URL,
    EMBED_URL,
    MESSAGES_URL,
    RESPONSES_URL,
    TEXT_URL,
)
from tests.api.requests.test_empty_values import (
    ASKED,
    GENERATE_URL,
    MODELS,
    OLLAMA_EMBED_URL,
    OLLAMA_URL,
    sent,
)
from tests.draws import draws
from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.errors import InvalidRequest

HEADER = "x-ignored-params"
ODD = [[{"odd": 1}]]  # a value that no field has
URLS = dict(
    zip(
        rule_table.DIALECTS,
        [CHAT_URL, TEXT_URL, EMBED_URL, RESPONSES_URL, MESSAGES_URL, OLLAMA_URL, OLLAMA_EMBED_URL],
        strict=True,
    )
)
ASKING = [
    {"mode": "x"},
    {"type": "ephemeral"},
    "x",
    7,
    True,
    "low",
    "auto",
    "priority",
    "24h",
    ["x"],
]


def cells() -> list[tuple[str, str, str]]:
    """(dialect, field, what the page says)."""
    head, _, *lines = rule_table.written().splitlines()
    names = head.strip("| ").split(" | ")[1:-1]
    found = []
    for line in lines:
        field, *words = [cell.strip() for cell in line[1:-2].split(" | ")]
        found += [(d, field.strip("`"), w) for d, w in zip(names, words, strict=False)]
    return found


CELLS = cells()


def place_of(dialect: str, field: str) -> tuple[str, bool]:
    """The route, and whether the field stands in `options`."""
    if dialect != "api/chat, generate" or field in known("OllamaChatRequest"):
        return URLS[dialect], False
    if field in known("OllamaGenerateRequest"):
        return GENERATE_URL, False
    return OLLAMA_URL, field in known("OllamaOptions")


def known(name: str) -> set[str]:
    model = MODELS[name]
    return {*model.model_fields, *model.other_names, *model.refused}


def ask(dialect: str, field: str, value: Any) -> httpx.Response:
    path, is_option = place_of(dialect, field)
    change = {"options": {field: value}} if is_option else {field: value}
    return sent(path, ASKED[path] | change)


def asks_for_something(dialect: str, field: str) -> Any:
    """A value of a hint that is no neutral one, and of the right type."""
    path, is_option = place_of(dialect, field)
    by_path = dict(zip(URLS.values(), rule_table.DIALECTS.values(), strict=True))
    models = rule_table.DIALECTS["api/chat, generate"] if path == GENERATE_URL else by_path[path]
    for value in ASKING:
        for model in models:
            is_here = (model.__name__ == "OllamaOptions") is is_option
            if not is_here or field not in model.model_fields:
                continue
            ignored = Ignored()
            try:
                parse(model, ({} if is_option else ASKED[path]) | {field: value}, ignored)
            except InvalidRequest:
                continue
            if ignored.names:
                return value
    raise AssertionError(f"nothing asks {dialect} for {field}")


def names(answer: httpx.Response, field: str) -> bool:
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    return answer.status_code == 400 and re.search(rf"\b{re.escape(field)}\b", message) is not None


def check(dialect: str, field: str, says: str) -> None:
    word, _, neutral = says.partition("; neutral: ")
    for value in map(json.loads, re.findall(r"`([^`]+)`", neutral)):
        answer = ask(dialect, field, value)
        assert answer.status_code == 200, (field, value, answer.text)
        assert HEADER not in answer.headers
    if word and field not in ASKED[place_of(dialect, field)[0]]:
        assert ask(dialect, field, None).status_code == 200
    if word == "hint":
        answer = ask(dialect, field, asks_for_something(dialect, field))
        assert answer.status_code == 200, (field, answer.text)
        assert field in answer.headers[HEADER]
    elif word == "neutral":
        answer = ask(dialect, field, 3)
        assert answer.status_code == 200, answer.text
        assert HEADER not in answer.headers
    else:  # obeyed, refused, unknown here, or another field's name
        answer = ask(dialect, field, ODD)
        assert names(answer, field), (dialect, field, says, answer.text)


def test_the_page_has_many_cells() -> None:
    assert len(CELLS) > 1000
    assert {says.partition(";")[0] for _, _, says in CELLS} >= {"obeyed", "hint", "refused", ""}


@draws(20, 600)
@given(cell=st.sampled_from(CELLS))
def test_a_field_gets_what_the_page_says(cell: tuple[str, str, str]) -> None:
    check(*cell)
