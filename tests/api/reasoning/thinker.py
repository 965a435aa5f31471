"""A model that thinks, over the fake engine: templates and states for the tests beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.api.support import ByteTokenizer, Served, fake_engine, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.text.templates.chat_template import ChatTemplate

# As Qwen 3 has it: a switch, a closed block where it is off, thoughts of earlier answers.
SWITCHED = """\
{%- if tools %}<tool_call>{{ tools | tojson }}{% endif -%}
{%- for message in messages -%}<|turn|>{{ message.role }}
{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif -%}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}</tool_call>{% endfor %}
{%- endfor -%}
{%- if add_generation_prompt -%}<|turn|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif -%}"""
# As R1's distillates: the prompt begins the thinking, and there is no switch.
ALWAYS = """\
{%- for message in messages -%}<|turn|>{{ message.role }}
{{ message.content }}{%- endfor -%}
{%- if add_generation_prompt -%}<|turn|>assistant
<think>
{% endif -%}"""
# As gpt-oss: levels.
LEVELS = """\
<|turn|>Reasoning: {{ reasoning_effort or "medium" }}
{%- for message in messages -%}<|turn|>{{ message.role }}
{% if message.thinking %}<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif -%}
{{ message.content }}{%- endfor -%}
{%- if add_generation_prompt -%}<|turn|>assistant{% endif -%}"""

ANSWER = says("<think>\nLet me see.\n</think>\n\nHello!")


@contextmanager
def thinking_server(source: str = SWITCHED) -> Iterator[Served]:
    template = ChatTemplate(source, ByteTokenizer())
    state = ready_state(fake_engine(ANSWER), template=template)
    with live(state, ApiConfig(sse_ping=0.2)) as url:
        yield Served(url, state)


def prompt_of(engine: FakeEngine) -> str:
    ids = engine.requests[-1].prompt_token_ids
    return b"".join({257: b"<|end|>", 258: b"|"}.get(i) or bytes([i]) for i in ids).decode()


def asked(served: Served, path: str, body: dict[str, Any]) -> tuple[Any, str]:
    """The engine's request for a body, and its prompt."""
    engine = served.use(fake_engine(ANSWER))
    served.whole(path, body)
    return engine.requests[-1], prompt_of(engine)
