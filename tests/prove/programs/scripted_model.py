"""What the programs talk to: a server whose model knows two jobs, over the fake engine.

Asked for the weather it calls the tool, and says what the tool answered; asked about Anna it writes
her as JSON, or as the arguments of the tool that it was given for her. Anything else is greeted.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.api.support import EOS, VOCAB_SIZE, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.text.tools.form import write_call

CONTEXT = 16_384
ANNA = json.dumps({"name": "Anna", "age": 30})
PARIS = json.dumps({"city": "Paris"})
_TOOL = re.compile(r'"function": \{"name": "(\w+)"')
_RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


def answer_to(prompt: str) -> str:
    if results := _RESULT.findall(prompt):
        return f"The tool says: {results[-1]}"
    tools = _TOOL.findall(prompt)
    for subject, arguments in (("Anna", ANNA), ("Paris", PARIS)):
        if subject in prompt and tools:
            return write_call(tools[0], arguments)
    return ANNA if "Anna" in prompt else "Hello there!"


def _replay(request: Request) -> list[int]:
    return says(answer_to(bytes(i for i in request.prompt_token_ids if i < 256).decode()))


@contextmanager
def scripted_server() -> Iterator[str]:
    """Its base URL; it answers to `tiny` and to `claude-*`."""
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=CONTEXT)
    engine = FakeEngine(_replay, info=info, eos_token_ids=[EOS])
    with live(ready_state(engine, max_model_len=CONTEXT, name_patterns=("claude-*",))) as url:
        yield url
