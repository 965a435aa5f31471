"""Whole requests of coding agents: each is answered, on the dialect that its program speaks, by a
model without thoughts as a whole, by one that thinks as a stream."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.api.reasoning.thinker import ANSWER, SWITCHED
from tests.api.requests.agents.chat_agents import CHAT_AGENTS, HOLE
from tests.api.requests.agents.messages_agents import COUNTED, MESSAGES_AGENTS
from tests.api.requests.agents.responses_agents import RESPONSES_AGENTS
from tests.api.support import EOS, VOCAB_SIZE, ByteTokenizer, app_over, client_of, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.text.templates.chat_template import ChatTemplate

CONTEXT = 32_768  # less than the limits that agents ask for, and more than their prompts
BODIES = [
    *(("/v1/chat/completions", name, body) for name, body in CHAT_AGENTS.items()),
    ("/v1/completions", "continue: a hole in a file", HOLE),
    *(("/v1/responses", name, body) for name, body in RESPONSES_AGENTS.items()),
    *(("/v1/messages", name, body) for name, body in MESSAGES_AGENTS.items()),
]
PLAIN: dict[str, Any] = {}
THINKING: dict[str, Any] = {"template": ChatTemplate(SWITCHED, ByteTokenizer())}
# Behind the marks of a grammar the fake engine's words would be no answer: forms get what fits.
FORMED = {"claude code: a title": '{"title": "A"}', "codex: a review in a form": '{"findings": []}'}


def sent(path: str, body: dict[str, Any], name: str = "", **model: Any) -> httpx.Response:
    answer = says(FORMED[name]) if name in FORMED else ANSWER if model else says("Hello!")
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=CONTEXT)
    app, _ = app_over(
        FakeEngine(answer, info=info, eos_token_ids=[EOS]),
        max_model_len=CONTEXT,
        name_patterns=("claude-*",),
        **model,
    )

    async def main() -> httpx.Response:
        async with client_of(app) as client:
            return await client.post(path, json=body)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("model", "stream"), [(PLAIN, False), (THINKING, True)], ids=["plain", "thinking"]
)
@pytest.mark.parametrize(("path", "name", "body"), BODIES, ids=[name for _, name, _ in BODIES])
def test_an_agent_is_answered(
    path: str, name: str, body: dict[str, Any], model: dict[str, Any], stream: bool
) -> None:
    asked = body | {"stream": stream}
    if not stream:
        asked.pop("stream_options", None)  # it goes with a stream alone
    answer = sent(path, asked, name, **model)
    assert answer.status_code == 200, answer.text
    if stream:
        assert "error" not in _events(answer.text)


def _events(text: str) -> set[str]:
    """The keys of a stream's events, and its events' types."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert events
    return {key for event in events for key in event} - {"type"} | {
        str(event.get("type")) for event in events
    }


def test_an_agent_s_prompt_is_counted() -> None:
    answer = sent("/v1/messages/count_tokens", COUNTED)
    assert answer.status_code == 200, answer.text
    assert answer.json()["input_tokens"] > 1000


def test_what_an_agent_asked_for_in_vain_is_named() -> None:
    """Thinking of a model that has none, a limit above the room, what no grammar holds."""
    body = MESSAGES_AGENTS["claude code: a turn with results"]
    names = sent("/v1/messages", body).headers["x-ignored-params"].split(", ")
    assert {"cache_control", "context_management", "max_tokens", "thinking"} <= set(names)
    assert "tools[2].input_schema.properties.edits.uniqueItems" in names
