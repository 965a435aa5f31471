"""Messages to prompts: real templates byte for byte, and clear words where there is no prompt."""

import itertools
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.text.byte_tokenizer import ByteTokenizer
from tests.text.templates.chat_templates import (
    IN_PARTS,
    LLAMA3,
    LLAMA3_SPECIALS,
    SELECTED,
    SMOLLM2,
    TOOLS,
)
from thirdeye.server.text.templates import sandbox
from thirdeye.server.text.templates.chat_template import (
    MAX_REFUSAL_CHARS,
    ChatTemplate,
    ChatTemplateError,
)
from thirdeye.server.text.templates.completion_prompt import PromptTooLong
from thirdeye.server.text.templates.special_tokens import MARK

TOKENIZER = ByteTokenizer()
LLAMA = ByteTokenizer(LLAMA3_SPECIALS, bos="<|begin_of_text|>", eos=["<|eot_id|>"])
DEFAULT_SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)
REFUSES = (
    "{% if messages|length > 1 %}{{ raise_exception('No: ' + messages[1].content) }}{% endif %}"
    "{{ messages[0].content }}"
)

Messages = list[dict[str, Any]]


def user(content: str = "Hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def test_smollm2_renders_exactly() -> None:
    template = ChatTemplate(SMOLLM2, TOKENIZER)
    assert template.render([user()]) == (
        DEFAULT_SYSTEM + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": "system", "content": "Be brief."}, user(), assistant("Yo"), user(" Ok ")]
    assert template.render(messages, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\n Ok <|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("source", "expected", "begun"),
    [
        (
            IN_PARTS,
            "System: Be brief.<|im_end|>\nUser: Hi<|im_end|>\nAssistant:",
            "User: Hi<|im_end|>\nAssistant: So",
        ),
        (SELECTED, "SYSTEM Be brief. USER Hi ASSISTANT ", "USER Hi ASSISTANT So"),
    ],
    ids=["in turns", "selected"],
)
def test_a_template_that_reads_parts_is_given_parts(source: str, expected: str, begun: str) -> None:
    """Of a plain text both make nothing at all."""
    template = ChatTemplate(source, TOKENIZER)
    assert template.takes_system
    assert template.render([{"role": "system", "content": "Be brief."}, user()]) == expected
    assert template.render([user(), assistant("So")], continue_final_message=True) == begun
    ids = template.encode([user("<|im_end|>")])
    assert ids.count(TOKENIZER.special_tokens["<|im_end|>"]) == source.count("<|im_end|>")


def test_smollm2_ids() -> None:
    """Special literals of the template are ids, everything else is plain text."""
    template = ChatTemplate(SMOLLM2, TOKENIZER)
    start, end = 256, 257
    assert template.encode([{"role": "system", "content": "é<|im_end|>"}, user()]) == [
        *[start, *"system\né<|im_end|>".encode(), end, 10],
        *[start, *b"user\nHi", end, 10],
        *[start, *b"assistant\n"],
    ]


def test_llama3_renders_exactly() -> None:
    template = ChatTemplate(LLAMA3, LLAMA)
    assert template.render([user("  Hi\n"), assistant("Yo")]) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert template.encode([user()])[:2] == [256, 258]


def test_the_templates_bos_and_eos_are_the_tokenizers_unless_given() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    assert ChatTemplate(source, LLAMA).render([user()]) == "<|begin_of_text|>Hi<|eot_id|>"
    given = ChatTemplate(source, LLAMA, bos_token="<|python_tag|>", eos_token="<|end_of_text|>")
    assert given.render([user()]) == "<|python_tag|>Hi<|end_of_text|>"
    none = ChatTemplate(source, ByteTokenizer((), bos=None, eos=()))
    assert none.render([user()]) == "Hi"


def test_developer_is_system_unless_the_template_knows_better() -> None:
    messages = [{"role": "developer", "content": "x"}]
    rendered = ChatTemplate(SMOLLM2, TOKENIZER).render(messages, add_generation_prompt=False)
    assert rendered == "<|im_start|>system\nx<|im_end|>\n"
    knows = ChatTemplate("{# developer #}" + SMOLLM2, TOKENIZER)
    assert "<|im_start|>developer\nx" in knows.render(messages)
    assert messages == [{"role": "developer", "content": "x"}]


def test_tools_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "<é>"}}]
    rendered = ChatTemplate(TOOLS, TOKENIZER).render([user()], tools=tools)
    assert rendered.startswith(
        '<|im_start|>system\n{"type": "function", "function": '
        '{"name": "f", "description": "<é>"}}\nf<é><|im_end|>\n'
    )


# --- continue_final_message ----------------------------------------------------------------------

words = st.text("ab <|>\n_é", max_size=12)


@cache
def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, LLAMA if source == LLAMA3 else TOKENIZER)


@pytest.mark.parametrize("source", [SMOLLM2, LLAMA3], ids=["smollm2", "llama3"])
@given(content=words, question=words)
def test_a_continued_prompt_is_the_whole_one_cut_after_the_content(
    source: str, content: str, question: str
) -> None:
    tokenizer = LLAMA if source == LLAMA3 else TOKENIZER
    template = template_of(source)
    messages = [user(question), assistant(content)]
    prompt = template.render(messages, continue_final_message=True)
    whole = template.render(messages, add_generation_prompt=False)
    end = "<|eot_id|>" if source == LLAMA3 else "<|im_end|>\n"
    assert prompt + end == whole
    ids = template.encode(messages, continue_final_message=True)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == prompt


@pytest.mark.parametrize(
    "messages",
    [[], [user()], [assistant("a"), user()], [assistant(None)], [assistant("a"), {**user()}]],
)
def test_only_an_assistants_text_can_be_continued(messages: Messages) -> None:
    with pytest.raises(ChatTemplateError, match="'continue_final_message' needs"):
        ChatTemplate(SMOLLM2, TOKENIZER).encode(messages, continue_final_message=True)


def test_a_continued_prompt_opens_no_message_behind_it() -> None:
    template = ChatTemplate(
        "{{ 'new ' if add_generation_prompt }}{{ messages[-1].content }}", TOKENIZER
    )
    messages = [assistant("a")]
    assert template.render(messages, continue_final_message=True) == "a"
    assert template.render(messages) == "new a"


def test_a_message_cannot_forge_the_place_of_the_cut() -> None:
    """It would end the prompt early, and take the rest of the template away."""
    template = ChatTemplate("{{ messages[-1].content }}{{ messages[0].content }}", TOKENIZER)
    messages = [user("b" + MARK * 3 + " c"), assistant("a")]
    assert template.render(messages, continue_final_message=True) == "a"


def test_a_template_that_drops_the_message_cannot_continue_it() -> None:
    template = ChatTemplate("{{ messages[0].content }}", TOKENIZER)
    with pytest.raises(ChatTemplateError, match="cannot continue"):
        template.render([user(), assistant("a")], continue_final_message=True)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{% for %}", "does not parse"),
        ("{{ messages | no_such_filter }}", "does not parse"),
        ("{{ messages[0].nothing.at_all }}", "cannot render"),
        ("{{ messages[0].content * 10**9 }}", "cannot render .*: .* more than 16777216 characters"),
        ("{{ messages.__class__.__mro__[1] }}", "cannot render .*: access to .* is unsafe"),
        ("always the same", "drops a user's message"),
        ("{{ raise_exception('no users here') }}", "no users here"),
    ],
)
def test_a_broken_template_is_refused_at_load(source: str, word: str) -> None:
    with pytest.raises(ChatTemplateError, match=word):
        ChatTemplate(source, TOKENIZER)


def test_a_templates_refusal_is_told_in_its_own_words() -> None:
    """And not at any length, nor with our marks in it."""
    template = ChatTemplate(REFUSES, TOKENIZER)
    with pytest.raises(ChatTemplateError, match=r"^No: <\|im_end\|>$"):
        template.render([user(), user("<|im_end|>")])
    with pytest.raises(ChatTemplateError) as caught:
        template.render([user(), user("x" * 999)])
    assert str(caught.value) == "No: " + "x" * (MAX_REFUSAL_CHARS - 4)


def test_a_refusal_without_words_gets_some() -> None:
    source = REFUSES.replace("'No: ' + messages[1].content", "''")
    with pytest.raises(ChatTemplateError, match="template refuses"):
        ChatTemplate(source, TOKENIZER).render([user(), user()])


@pytest.mark.parametrize(
    "role", ["tester", "", None, "<|im_end|>", "user<|im_end|>", "im_end", ["user"], {"a": 1}]
)
def test_an_unknown_role_is_refused(role: Any) -> None:
    """Templates print roles between halves of a literal: only known ones may get there."""
    template = ChatTemplate(SMOLLM2, TOKENIZER)
    with pytest.raises(ChatTemplateError, match=r"^'role' must be one of developer, system, "):
        template.render([{"role": role, "content": "x"}])
    with pytest.raises(ChatTemplateError):
        template.render([{"content": "x"}])


def test_a_render_whose_cost_explodes_with_the_messages_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4,096 messages, cubed, are 68 billion turns of a loop that prints nothing."""
    loops = "".join(f"{{% for {name} in messages %}}" for name in "abc") + "{% endfor %}" * 3
    template = ChatTemplate(loops + "{{ messages[0].content }}", TOKENIZER)
    monkeypatch.setattr(sandbox, "MAX_TURNS", 9000)
    with pytest.raises(ChatTemplateError, match=r"more than 9,000 turns .* send fewer messages"):
        template.render([user("x")] * 4096)


def halting(step: float) -> Callable[[], float]:
    """A clock of a thread that stands still for `step` seconds before each look at it."""
    times = itertools.count(0.0, step)
    return lambda: next(times)


LOOP = "{% for m in messages %}{{ m.content }}{% endfor %}"


def test_a_busy_machine_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage of a large process is collected in whatever thread allocates: that is not ours."""
    template = ChatTemplate(LOOP, TOKENIZER)
    monkeypatch.setattr(time, "thread_time", halting(3600.0))
    assert template.render([user("x")] * 20) == "x" * 20


def test_dear_turns_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(LOOP, TOKENIZER)
    monkeypatch.setattr(time, "thread_time", halting(0.02))
    assert template.render([user("x")] * 100)
    with pytest.raises(ChatTemplateError, match="more than 3 s of processor time; send fewer"):
        template.render([user("x")] * 200)


def test_what_cannot_fit_is_refused_before_tokenizing(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{{ messages[0].content }}", TOKENIZER)
    monkeypatch.setattr(TOKENIZER, "encode", None)  # calling it would raise TypeError
    with pytest.raises(PromptTooLong) as caught:
        template.encode([user("x" * 10**6)], max_tokens=8192)
    assert caught.value.num_tokens_at_least == -(-(10**6) // TOKENIZER.max_token_bytes)


def test_what_may_fit_is_tokenized() -> None:
    template = ChatTemplate("{{ messages[0].content }}", TOKENIZER)
    assert len(template.encode([user("x" * 100)], max_tokens=8)) == 100


def test_the_template_cannot_change_the_callers_messages() -> None:
    source = "{% for m in messages %}{% if m.pop %}{% endif %}{% endfor %}{{ messages[0].content }}"
    messages = [user(), {"role": "tool", "content": "x", "list": [{"a": 1}]}]
    before = repr(messages)
    ChatTemplate(source, TOKENIZER).encode(messages)
    assert repr(messages) == before
