"""The token counters add up to what callers were told in `usage`: what is seen is what is told."""

import re
from typing import Any

import httpx
import pytest

from tests.api.support import (
    CHAT,
    COMPLETION,
    by_sample,
    eventually,
    fake_engine,
    live,
    ready_state,
)

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"n": 3}),
    ("/v1/chat/completions", CHAT | {"n": 2} | STREAM),
    ("/v1/completions", COMPLETION | {"prompt": ["one", "two"], "n": 2, "max_tokens": 40}),
    ("/v1/completions", COMPLETION | {"stop": "x", "n": 4, "max_tokens": 40}),
    ("/v1/completions", COMPLETION | {"echo": True, "max_tokens": 0, "logprobs": 1}),
    ("/v1/responses", {"model": "tiny", "input": "Hi"}),
    ("/v1/messages", CHAT | {"max_tokens": 3}),
    ("/v1/embeddings", {"model": "tiny", "input": ["one", "twenty"]}),
]


def counters(url: str) -> tuple[float, float]:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = dict(re.findall(r"^thirdeye_(prompt|generation)_tokens_total{.*} (.+)$", text, re.M))
    return float(found["prompt"]), float(found["generation"])


def usage_of(answer: httpx.Response) -> dict[str, int]:
    if "application/json" in answer.headers["content-type"]:
        usage = answer.json()["usage"]
        assert isinstance(usage, dict)
        return usage
    last = [line for line in answer.text.splitlines() if line.startswith("data: {")][-1]
    return httpx.Response(200, text=last.removeprefix("data: ")).json()["usage"]  # type: ignore[no-any-return]  # JSON


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_counters_grow_by_the_usage(path: str, body: dict[str, Any]) -> None:
    """A prompt counts once however many samples it has, and nothing behind a stop string does."""
    with live(ready_state(fake_engine(by_sample, tokens_per_step=3))) as url:
        answer = httpx.post(url + path, json=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        usage = usage_of(answer)
        prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
        generated = usage.get("completion_tokens", usage.get("output_tokens", 0))
        eventually(lambda: counters(url) == (prompt, generated))


def test_counters_grow_while_an_answer_runs() -> None:
    """Long streams are seen as they go, and what a client left behind stays counted once."""
    state = ready_state(fake_engine(hang_after=4))
    with live(state) as url:
        body = CHAT | {"stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
            eventually(lambda: counters(url)[1] == 4)
            prompt = counters(url)[0]
        eventually(lambda: state.admission.in_flight == 0)
        assert counters(url) == (prompt, 4)


def test_what_was_refused_is_not_counted() -> None:
    with live(ready_state(fake_engine(error_after=0))) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, trust_env=False)
        assert answer.status_code == 500
        assert counters(url) == (0, 0)
