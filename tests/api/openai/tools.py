"""Two tools, answers that call them, and a server with room for the tools in its prompt."""

import asyncio
from typing import Any

from tests.api.support import EOS, VOCAB_SIZE, app_over, client_of, ready_state, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.text.tools.form import write_call

ROOM = 8192
URL = "/v1/chat/completions"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


TOOLS = [
    function("get_weather", description="The weather of a city", parameters=PARAMETERS),
    function("now"),
]
NAMED = function("get_weather")
MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "tools": TOOLS}

PARIS = '{"city": "Paris"}'
ONE = write_call("get_weather", PARIS)
TWO = f"{ONE}\n{write_call('now', '{}')}"


def engine_that_says(text: str, **knobs: Any) -> FakeEngine:
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=ROOM)
    return FakeEngine(says(text), info=info, eos_token_ids=[EOS], **knobs)


def state_of(engine: FakeEngine, **changes: Any) -> ServerState:
    return ready_state(engine, max_model_len=ROOM, **changes)


def ask(
    body: dict[str, Any], engine: FakeEngine | None = None, path: str = URL, **model: Any
) -> tuple[int, dict[str, Any]]:
    async def main() -> tuple[int, dict[str, Any]]:
        app, state = app_over(engine or engine_that_says("Hi"), max_model_len=ROOM, **model)
        async with client_of(app) as client:
            answer = await client.post(path, json=body)
            assert state.admission.in_flight == 0
            return answer.status_code, answer.json()

    return asyncio.run(main())
