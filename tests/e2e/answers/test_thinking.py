"""A model that thinks, from a client to the transformer and back: the real server.

The tiny model is random and never stops thinking by itself, so whatever answer it gives is behind
a thought that the engine closed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.draws import is_night
from tests.e2e.in_process import served
from tests.text.tools.families.family_templates import FAMILIES
from tests.tiny import tiny_llama

pytestmark = [pytest.mark.prove] if is_night() else []
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 300,
    "thinking_token_budget": 8,
    "seed": 1,
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "boolean"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
OPEN = "assistant\n<think>\n{% endif %}"


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A template that begins the thinking, and writes calls between tags."""
    path: Path = tmp_path_factory.mktemp("tiny-thinker")
    tiny_llama(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    template = path / "thinks.jinja"
    template.write_text(FAMILIES["qwen_xml"].replace("assistant\n{% endif %}", OPEN))
    with served(path, chat_template=str(template)) as url:
        yield url


def ask(url: str, **changes: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/chat/completions", json=BODY | changes, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("temperature", [0, 1])
def test_an_answer_in_a_schema_stands_behind_a_thought_of_the_budget(
    thinker: str, temperature: float
) -> None:
    """The thought, its closing mark, and then the schema from its start."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    answer = ask(thinker, response_format=form, temperature=temperature)
    message = answer["choices"][0]["message"]
    assert json.loads(message["content"]).keys() == {"city", "days"}
    assert "reasoning_content" in message
    num_thought = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 8 < num_thought < 8 + 12, "the budget, and the tokens of a mark that has none of its own"


def test_a_call_in_the_familys_form_stands_behind_a_thought(thinker: str) -> None:
    asked = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    choice = ask(thinker, **asked)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]).keys() == {"city", "days"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_least_length_is_the_answers(thinker: str) -> None:
    answer = ask(thinker, min_tokens=20, max_tokens=60)
    usage = answer["usage"]
    num_thought = usage["completion_tokens_details"]["reasoning_tokens"]
    assert usage["completion_tokens"] - num_thought >= 20
