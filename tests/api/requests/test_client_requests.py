"""What client programs send gets the answer that the rules of docs/api.md give, whole and
streamed."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.api.http.test_errors import ask
from tests.api.requests.client_requests import (
    CHAT_URL,
    EMBED_URL,
    GOOD,
    HINTS,
    NEUTRAL,
    OBEYED,
    REFUSED,
)
from tests.api.support import CHAT, COMPLETION, client_over, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig

HEADER = "x-ignored-params"


def paths_of(table: Sequence[tuple[Any, ...]]) -> list[str]:
    return [*dict.fromkeys(row[0] for row in table)]


def sent(path: str, changes: list[dict[str, Any]]) -> Iterator[tuple[str, httpx.Response]]:
    """The answers to a good request with each of these changes, and what to call it."""

    async def main() -> list[httpx.Response]:
        async with client_over(ready_state(fake_engine(), max_model_len=2048)) as client:
            return [await client.post(path, json=GOOD[path] | change) for change in changes]

    answers = asyncio.run(main())
    return ((f"{change}: {a.text}", a) for change, a in zip(changes, answers, strict=True))


@pytest.mark.parametrize("path", paths_of(OBEYED + NEUTRAL))
def test_what_is_obeyed_or_asks_for_nothing_passes_in_silence(path: str) -> None:
    changes = [change for at, change in OBEYED + NEUTRAL if at == path]
    for case, answer in sent(path, changes):
        assert answer.status_code == 200, case
        assert HEADER not in answer.headers, case


def of_path(rows: list[tuple[str, dict[str, Any], str]], path: str) -> tuple[list[Any], list[str]]:
    """The changes of a table, and what each is answered with."""
    found = [(change, said) for at, change, said in rows if at == path]
    return [change for change, _ in found], [said for _, said in found]


@pytest.mark.parametrize("path", paths_of(HINTS))
def test_a_hint_is_taken_and_named(path: str) -> None:
    changes, names = of_path(HINTS, path)
    for (case, answer), told in zip(sent(path, changes), names, strict=True):
        assert answer.status_code == 200, case
        assert answer.headers[HEADER] == told, case


@pytest.mark.parametrize(
    "path", [path for path in GOOD if path != EMBED_URL]
)  # which are not streamed
def test_a_stream_names_them_too(path: str) -> None:
    """Embeddings are not streamed."""
    changes, names = of_path(HINTS, path)
    streamed = [change | {"stream": True} for change in changes]
    for (case, answer), told in zip(sent(path, streamed), names, strict=True):
        assert answer.status_code == 200, case
        assert answer.headers["content-type"].startswith("text/event-stream"), case
        assert answer.headers[HEADER] == told, case


@pytest.mark.parametrize("path", paths_of(REFUSED))
def test_what_cannot_be_obeyed_is_refused_by_name(path: str) -> None:
    changes, params = of_path(REFUSED, path)
    for (case, answer), param in zip(sent(path, changes), params, strict=True):
        assert answer.status_code == 400, case
        error = answer.json()["error"]
        assert error["param"] == param, case
        assert f"'{param}'" in error["message"], case


def sampling_of(path: str, body: dict[str, Any]) -> Any:
    engine = fake_engine()
    assert ask(path, body, state=ready_state(engine)).status_code == 200
    return engine.requests[0].sampling


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"n_predict": 3}, "max_tokens", 3),
        ({"max_tokens": -1}, "max_tokens", 493),
        ({"max_tokens": 100_000}, "max_tokens", 493),
        ({"repeat_penalty": 1.5}, "repetition_penalty", 1.5),
        ({"random_seed": 7}, "seed", 7),
        ({"min_new_tokens": 2}, "min_tokens", 2),
    ],
)
def test_another_name_is_obeyed(change: dict[str, Any], name: str, value: object) -> None:
    assert getattr(sampling_of(CHAT_URL, CHAT | change), name) == value


PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty", "penalty_window")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"repeat_penalty": 1.5, "repeat_last_n": 64}, (1.5, 0, 0, 64)),
        ({"presence_penalty": 1, "repeat_last_n": 1}, (1, 0, 1, 1)),
        ({"frequency_penalty": 1, "repeat_last_n": -1}, (1, 1, 0, -1)),
        ({"repeat_penalty": 1.5, "repeat_last_n": 512}, (1.5, 0, 0, -1)),
        ({"repeat_penalty": 1.5, "presence_penalty": 1, "repeat_last_n": 0}, (1, 0, 0, -1)),
        ({"repeat_last_n": 64}, (1, 0, 0, -1)),
    ],
)
def test_penalties_have_the_window_that_was_asked_for(
    change: dict[str, Any], wanted: tuple[float, ...]
) -> None:
    """And none where it makes no difference: the engine launches such steps ahead."""
    for path, good in ((CHAT_URL, CHAT), ("/v1/completions", COMPLETION)):
        sampling = sampling_of(path, good | change)
        assert tuple(getattr(sampling, name) for name in PENALTIES) == wanted


@pytest.mark.parametrize(("length", "wanted"), [(8, 16), (500, 12), (511, 1)])
def test_the_default_of_completions_fits_into_the_room(length: int, wanted: int) -> None:
    """A caller who named no number never hears of one."""
    body = COMPLETION | {"prompt": [65] * length}
    assert sampling_of("/v1/completions", body).max_tokens == wanted
    assert HEADER not in ask("/v1/completions", body).headers


def test_a_limit_above_the_room_is_refused_if_the_operator_says_so() -> None:
    strict = ApiConfig(strict_max_tokens=True)
    for path, name in (("/v1/responses", "max_output_tokens"), ("/v1/chat/completions",) * 2):
        name = "max_completion_tokens" if name == path else name
        body = {k: v for k, v in GOOD[path].items() if not k.startswith("max_")}
        answer = ask(path, body | {name: 494}, config=strict)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(f"'{name}' must be at most 493, got")
        huge = ask(path, body | {name: 2**40}, config=strict).json()["error"]["message"]
        assert huge.startswith(f"'{name}' must be at most 493, got a larger number: the context")
        assert ask(path, body | {name: 493}, config=strict).status_code == 200


def test_a_model_answers_to_its_patterns_by_the_name_that_was_sent() -> None:
    state = ready_state(fake_engine(), name_patterns=("claude-*",))
    answer = ask(CHAT_URL, CHAT | {"model": "claude-haiku"}, state=state)
    assert answer.json()["model"] == "claude-haiku"
    assert ask(CHAT_URL, CHAT | {"model": "gpt-4"}, state=state).status_code == 404
    assert ask(CHAT_URL, CHAT | {"model": "Tiny:latest"}, state=state).json()["model"] == "tiny"
    del (body := dict(CHAT))["model"]
    assert ask(CHAT_URL, body, state=state).json()["model"] == "tiny"


@pytest.mark.parametrize(
    ("pattern", "served", "others"),
    [
        ("claude-*", ["claude-", "claude-3/b", "claude-\n"], ["Claude-3", "xclaude-3"]),
        ("gpt-?", ["gpt-4"], ["gpt-", "gpt-4o"]),
        ("a[1]*", ["a[1]", "a[1]-b"], ["a1", "a1-b"]),
        ("*", ["anything", "a/b"], []),
    ],
)
def test_a_pattern_has_two_signs(pattern: str, served: list[str], others: list[str]) -> None:
    state = ready_state(fake_engine(), name_patterns=(pattern,))
    for name in served:
        assert ask(CHAT_URL, CHAT | {"model": name}, state=state).json()["model"] == name
    for name in others:
        assert ask(CHAT_URL, CHAT | {"model": name}, state=state).status_code == 404


def test_two_names_that_differ_in_case_alone_are_told_apart_or_neither_is_meant() -> None:
    state = ready_state(fake_engine(), names=("tiny", "Tiny"))
    assert ask(CHAT_URL, CHAT | {"model": "Tiny"}, state=state).json()["model"] == "Tiny"
    assert ask(CHAT_URL, CHAT | {"model": "TINY"}, state=state).status_code == 404


def test_two_bos_tokens_are_warned_of() -> None:
    twice = ask("/v1/completions", COMPLETION | {"prompt": [256, 256, 65]})
    assert twice.headers["x-prompt-warning"] == "the prompt begins with two BOS tokens"
    assert (
        "x-prompt-warning" not in ask("/v1/completions", COMPLETION | {"prompt": [256, 65]}).headers
    )
