"""Thinking in Ollama's dialect: beside the text, switched by `think`, and sent back."""

from collections.abc import Iterator

import pytest

from tests.api.ollama.lines import ASK, CHAT, GENERATE, GOOD, HI, Json, joined, lines, whole
from tests.api.reasoning.thinker import ANSWER, LEVELS, asked, thinking_server
from tests.api.support import Served, fake_engine

WRITE = GOOD[GENERATE]


@pytest.fixture(scope="module")
def shared_thinker() -> Iterator[Served]:
    with thinking_server() as served:
        yield served


@pytest.fixture
def thinker(shared_thinker: Served) -> Served:
    shared_thinker.use(fake_engine(ANSWER))
    return shared_thinker


def test_thoughts_stand_beside_the_text(thinker: Served) -> None:
    message = whole(thinker, CHAT, ASK)["message"]
    assert (message["thinking"], message["content"]) == ("Let me see.", "Hello!")
    answer = whole(thinker, GENERATE, WRITE)
    assert (answer["thinking"], answer["response"]) == ("Let me see.", "Hello!")


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_they_are_streamed_first(thinker: Served, path: str, step: int) -> None:
    thinker.use(fake_engine(ANSWER, tokens_per_step=step))
    found = lines(thinker, path, GOOD[path])
    parts = [line.get("message", line) for line in found]
    total = joined(found)
    said = total.get("message", total)
    assert said["thinking"] == "Let me see."
    text = "content" if path == CHAT else "response"
    assert said[text] == "Hello!"
    last_thought = max(i for i, part in enumerate(parts) if "thinking" in part)
    assert all(not part[text] for part in parts[:last_thought])


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (GENERATE, WRITE)])
def test_think_is_a_switch(thinker: Served, path: str, body: Json) -> None:
    off = body | {"think": False, "stream": False}
    assert "<think>\n\n</think>" in asked(thinker, path, off)[1]
    for on in ({}, {"think": True}):
        assert "<think>" not in asked(thinker, path, body | on | {"stream": False})[1]


def test_think_is_a_level() -> None:
    with thinking_server(LEVELS) as served:
        prompt = asked(served, CHAT, ASK | {"think": "low", "stream": False})[1]
    assert "Reasoning: low" in prompt


def test_thoughts_come_back_as_history(thinker: Served) -> None:
    said = {"role": "assistant", "content": "Hello!", "thinking": "Let me see."}
    body = ASK | {"messages": [HI, said, HI], "stream": False}
    assert "<think>Let me see.</think>" in asked(thinker, CHAT, body)[1]
