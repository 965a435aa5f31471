"""The same prompts as `transformers` makes of the same templates and messages."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tests.draws import draws
from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.templates.chat_templates import LLAMA3, SMOLLM2, TOOLS
from thirdeye.server.text.templates.chat_template import ChatTemplate

GENERATION = (
    "{%- for m in messages %}\n  {{- '<|im_start|>' ~ m.role }}\n"
    "  {%- if m.role == 'assistant' %}\n"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n"
    "  {%- else %}{{ m.content.strip() + '\n' }}{% endif %}\n"
    "  {%- if m.content == 'stop' %}{% break %}{% endif %}\n{%- endfor %}\n"
    "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}\n"
    "{{ ns.n }} {{ tools | tojson(indent=2) }}{{ '>' if add_generation_prompt }}\n"
)
TO_JSON = (
    "{% for m in messages %}{{ m.content }}{{ m | tojson(ensure_ascii=true) }}"
    "{{ m | tojson(ensure_ascii=False, indent=2) }}{{ m | tojson(true, 1) }}"
    "{{ m | tojson(separators=(',', ':'), sort_keys=true) }}{% endfor %}"
    "{{ tools | tojson(ensure_ascii=False) }}{{ documents is defined }}"
)
TEMPLATES = {
    "smollm2": SMOLLM2,
    "llama3": LLAMA3,
    "tools": TOOLS,
    "generation": GENERATION,
    "tojson": TO_JSON,
}

text = st.text("ab <|>_im_end\n\té🎉'\"&\\{%}", max_size=12) | st.just("stop")
messages_of = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": text}
    ),
    min_size=1,
    max_size=4,
)
tools_of = st.none() | st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": text, "description": text}),
        }
    ),
    min_size=1,
    max_size=2,
)


@cache
def ours(name: str) -> ChatTemplate:
    return ChatTemplate(TEMPLATES[name], ByteTokenizer())


def reference(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    prompts: Any = render_jinja_template(
        [messages],
        chat_template=source,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        **options,
    )
    return str(prompts[0][0])


@pytest.mark.parametrize("name", TEMPLATES)
@draws(15, 100)
@given(messages=messages_of, tools=tools_of, add=st.booleans())
def test_same_prompt_as_the_reference(
    name: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, add: bool
) -> None:
    rendered = ours(name).render(messages, tools=tools, add_generation_prompt=add)
    assert rendered == reference(TEMPLATES[name], messages, tools=tools, add_generation_prompt=add)


@pytest.mark.parametrize("name", ["smollm2", "llama3"])
@draws(15, 100)
@given(messages=messages_of, content=text.filter(str.strip))
def test_same_continuation_as_the_reference(
    name: str, messages: list[dict[str, Any]], content: str
) -> None:
    """But for a blank message, of which the reference leaves the template's own blanks out."""
    messages = [*messages, {"role": "assistant", "content": content}]
    rendered = ours(name).render(messages, continue_final_message=True)
    assert rendered == reference(TEMPLATES[name], messages, continue_final_message=True)
