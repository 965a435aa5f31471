"""`answer_token_ids`: an answer that another replica began is the answer it would have been."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.support import (
    CHAT,
    COMPLETION,
    EOS,
    client_over,
    fake_engine,
    ready_state,
)

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
IDS = [*"Grüße, 世界! A tail".encode(), EOS]
IGNORED = ("id", "created", "timings")
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    (CHAT_URL, CHAT),
    (CHAT_URL, CHAT | {"stop": ["tail"]}),
    (CHAT_URL, CHAT | {"max_tokens": 12}),
    (CHAT_URL, CHAT | {"logprobs": True, "top_logprobs": 2}),
    (TEXT_URL, COMPLETION | {"max_tokens": 60}),
    (TEXT_URL, COMPLETION | {"max_tokens": 60, "logprobs": 1}),
]


def ask(path: str, body: dict[str, Any]) -> httpx.Response:
    async def main() -> httpx.Response:
        async with client_over(ready_state(fake_engine(IDS))) as client:
            return await client.post(path, json=body)

    return asyncio.run(main())


@pytest.mark.parametrize(("path", "body"), OPTIONS)
def test_it_is_the_same_wherever_it_was_begun(path: str, body: dict[str, Any]) -> None:
    """Text, reason and counts are the whole answer's; tokens and logprobs are those behind."""
    body = body | {"return_token_ids": True}
    whole = ask(path, body).json()
    for known in (1, 3, 9, len(whole["choices"][0]["token_ids"]) - 1):
        begun = ask(path, body | {"answer_token_ids": IDS[:known]}).json()
        assert begun["choices"][0].pop("token_ids") == IDS[known : len(ids_of(whole))]
        assert logprobs_of(begun) == [entries[known:] for entries in logprobs_of(whole)]
        for answer in (begun, whole):
            for name in IGNORED:
                answer.pop(name, None)
        assert without_lists(begun) == without_lists(whole)


def ids_of(answer: dict[str, Any]) -> list[int]:
    found: list[int] = answer["choices"][0]["token_ids"]
    return found


def logprobs_of(answer: dict[str, Any]) -> list[list[Any]]:
    """Each list of them that there is."""
    found = answer["choices"][0]["logprobs"] or {}
    return [entries for entries in found.values() if entries is not None]


def without_lists(answer: dict[str, Any]) -> dict[str, Any]:
    (choice,) = answer["choices"]
    left = {k: v for k, v in choice.items() if k not in ("token_ids", "logprobs")}
    return answer | {"choices": [left]}


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        (CHAT_URL, {"answer_token_ids": [65], "n": 2}, "answer_token_ids"),
        (CHAT_URL, {"answer_token_ids": [65], "receipt": True}, "answer_token_ids"),
        (CHAT_URL, {"answer_token_ids": [65], "prompt_logprobs": 1}, "answer_token_ids"),
        (CHAT_URL, {"answer_token_ids": [65, EOS]}, "answer_token_ids[1]"),
        (CHAT_URL, {"answer_token_ids": [65], "stop_token_ids": [65]}, "answer_token_ids[0]"),
        (CHAT_URL, {"answer_token_ids": [9999]}, "answer_token_ids[0]"),
        (CHAT_URL, {"answer_token_ids": [65, 66], "max_tokens": 2}, "answer_token_ids"),
        (CHAT_URL, {"answer_token_ids": [65] * 600}, "messages"),
        (TEXT_URL, {"answer_token_ids": [65], "echo": True}, "answer_token_ids"),
        (TEXT_URL, {"answer_token_ids": [65], "prompt": ["a", "b"]}, "answer_token_ids"),
    ],
)
def test_what_cannot_go_on_is_refused(path: str, more: dict[str, Any], param: str) -> None:
    answer = ask(path, (CHAT if path == CHAT_URL else COMPLETION) | more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
