"""What coding agents talk to: a server whose model runs one command with the agent's own tool, and
then says what came out of it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.api.support import EOS, VOCAB_SIZE, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.text.tools.form import write_call

CONTEXT = 1_000_000  # bytes: an agent's first prompt has a hundred thousand
TASK = "Please use the tool"
COMMAND, PRINTED = "echo $((6 * 7)) made", "42 made"  # what it prints is nowhere in the prompt
SHELLS: dict[str, dict[str, Any]] = {  # an agent's tool -> what it is called with
    "exec_command": {"cmd": COMMAND},
    "run_shell_command": {"command": COMMAND, "is_background": False},
    "Bash": {"command": COMMAND, "description": "Counts"},
    "bash": {"command": COMMAND, "description": "Counts"},
}
_RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


def answer_to(prompt: str) -> str:
    if results := _RESULT.findall(prompt):
        return f"The tool says: {results[-1]}"
    offered = [name for name in SHELLS if f'"name": "{name}"' in prompt]
    if TASK in prompt and offered:
        return write_call(offered[0], json.dumps(SHELLS[offered[0]]))
    return "Hello there!"


def _replay(request: Request) -> list[int]:
    ids = (i for i in request.prompt_token_ids if i < 256)
    return says(answer_to(bytes(ids).decode(errors="replace")))


@contextmanager
def acting_server() -> Iterator[str]:
    """Its base URL; it answers to `tiny` and to `claude-*`."""
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=CONTEXT)
    engine = FakeEngine(_replay, info=info, eos_token_ids=[EOS])
    with live(ready_state(engine, max_model_len=CONTEXT, name_patterns=("claude-*",))) as url:
        yield url
