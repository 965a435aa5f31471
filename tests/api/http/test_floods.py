"""A body of four megabytes may be wrong a million times. One error is told, so one is made:
pydantic would collect them all, for half a minute and some gigabytes, while everybody waits."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.api.support import CHAT, ByteTokenizer, Served, served_model
from thirdeye.server.api.anthropic.schema import MessagesRequest
from thirdeye.server.api.openai.schema import ChatRequest, DetokenizeRequest
from thirdeye.server.api.responses.schema import ResponsesRequest

MANY = 20_000
FLOOD = {f"k{i}": 1 for i in range(MANY)}
WRONG = [-1] * MANY
ASKED = {"model": "tiny", "max_tokens": 5}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, CHAT | FLOOD),
        (ChatRequest, CHAT | {"metadata": FLOOD}),
        (ChatRequest, CHAT | {"messages": [{"role": "user", "content": "a", **FLOOD}]}),
        (ChatRequest, CHAT | {"messages": [{"role": "user", "content": WRONG}]}),
        (ChatRequest, CHAT | {"messages": WRONG}),
        (ChatRequest, CHAT | {"tools": WRONG}),
        (ChatRequest, CHAT | {"stop_token_ids": WRONG}),
        (DetokenizeRequest, {"tokens": WRONG}),
        (ResponsesRequest, {"model": "tiny", "input": "a", "include": WRONG}),
        (ResponsesRequest, {"model": "tiny", "input": WRONG}),
        (MessagesRequest, ASKED | {"messages": [{"role": "user", "content": WRONG}]}),
        (MessagesRequest, ASKED | {"messages": [{"role": "assistant", "content": WRONG}]}),
        (
            MessagesRequest,
            ASKED | {"messages": [{"role": "user", "content": "a"}], "system": WRONG},
        ),
    ],
)
def test_one_error_is_enough(model: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(body)
    assert raised.value.error_count() < 5


def test_good_ids_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = served_model()
    monkeypatch.setattr(type(model), "check_token_id", lambda *_: pytest.fail("one by one"))
    model.check_token_ids([0, ByteTokenizer.vocab_size - 1], "tokens")
    model.check_token_ids([], "tokens")


def test_token_strings_are_made_only_if_asked_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million of them held the event loop for nine seconds, and nobody had asked."""
    monkeypatch.setattr(
        "thirdeye.server.api.openai.tokenize.token_name", lambda *_: pytest.fail("not asked for")
    )
    assert served.whole("/tokenize", {"prompt": "Hi"})["token_strs"] is None
