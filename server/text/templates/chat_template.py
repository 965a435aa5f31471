"""Chat messages to a prompt, by the template that came with the model.

The template comes from the operator's checkpoint, never from a request. It runs in
`thirdeye.server.text.templates.sandbox`, which says what a template can and cannot do, and it is
rendered once at construction: a broken one stops the server at start instead of failing each
request. Special tokens come from the template alone
(`thirdeye.server.text.templates.special_tokens`). A render may take seconds with hostile
messages: call `encode` from a thread.

Whether a template shows tools, and writes calls in a form that this server reads, it tells
(`carries_tools`, `carries_calls`); what to do about one that does not is
`thirdeye.server.text.tools.tool_prompt`'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError

from thirdeye.server.text.reasoning.reasoning_form import (
    AUTO,
    NONE,
    REASONING_FORMS,
    ReasoningForm,
    find_reasoning_form,
)
from thirdeye.server.text.templates.completion_prompt import PromptTooLong, fewest_tokens
from thirdeye.server.text.templates.content_parts import (
    THOUGHT_NAMES,
    in_parts,
    with_thought_part,
)
from thirdeye.server.text.templates.continued_message import cut_at_mark, mark_end
from thirdeye.server.text.templates.sample_calls import SampleCalls
from thirdeye.server.text.templates.sandbox import TemplateRefusal, TemplateSandbox
from thirdeye.server.text.templates.sent_tools import readable_forms
from thirdeye.server.text.templates.special_tokens import MARK, SpecialTokens
from thirdeye.server.text.tokenizer import TokenizerLike
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.form_table import CALL_FORMS, signed_forms
from thirdeye.server.text.tools.form import OPEN

ROLES = ("developer", "system", "user", "assistant", "tool")
MAX_REFUSAL_CHARS = 200
_CANARY = "canary"
_OURS = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})

Message = Mapping[str, Any]  # role, content, and what the model's template knows besides


class ChatTemplateError(Exception):
    """These messages cannot be rendered (at construction: none can). Fit for a client's eyes."""


class _TemplateFailure(ChatTemplateError):
    """The template ran into an error of its own."""


class ChatTemplate:
    """One model's chat format. Safe to use from several threads."""

    def __init__(
        self,
        source: str,
        tokenizer: TokenizerLike,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        other_tokens: Mapping[str, str] | None = None,
        reasoning_format: str = AUTO,
        tool_format: str = AUTO,
        for_tools: "ChatTemplate | None" = None,
        example_tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """`bos_token` and `eos_token` are the literals that templates print by these names;
        `other_tokens` those by other names (`unk_token`).

        By default those of the tokenizer; of several end-of-sequence tokens, the lowest id's.
        `reasoning_format` is the name of a form, "none", or "auto": as the template tells.
        `tool_format` is one too, of tool calls: "hermes", a row of the table, or "auto".
        `for_tools`: the template of conversations with tools, if that is another one; such a one
        is tried out with `example_tools`.
        Raises `ChatTemplateError` for a template that does not parse or cannot render one message.
        """
        self.source = source
        self._tokenizer = tokenizer
        self._specials = SpecialTokens(tokenizer)
        self._knows_developer = "developer" in source
        eos_id = min(tokenizer.eos_token_ids, default=None)
        if bos_token is None:
            bos_token = _literal(tokenizer, tokenizer.bos_token_id)
        self._constants: Mapping[str, str | None] = {
            "documents": None,
            **(other_tokens or {}),
            "bos_token": bos_token,
            "eos_token": eos_token or _literal(tokenizer, eos_id),
        }
        self._sandbox = TemplateSandbox()
        try:
            self._template = self._sandbox.compile_template(source)
        except TemplateError as error:
            line = f" (line {error.lineno})" if isinstance(error, TemplateSyntaxError) else ""
            reason = str(error.message or error).splitlines()[0].rstrip(".")
            raise ChatTemplateError(
                f"The chat template does not parse: {reason:.200}{line}."
            ) from error
        tree = self._sandbox.parse(source)
        variables = meta.find_undeclared_variables(tree) - self._sandbox.globals.keys()
        self.variables = frozenset(variables) - _OURS  # which a request may set
        self.reasoning_form = _reasoning_form(reasoning_format, source, tokenizer)
        self._thought_names = THOUGHT_NAMES & _attributes(tree)
        self.for_tools = for_tools or self
        self._wants_parts = self._wants_thought_parts = False
        failure = self._show_user(example_tools)
        if failure is not None:
            self._wants_parts = True
            if self._show_user(example_tools) is not None:
                raise failure
        self.takes_system = self._shows_system()
        self._wants_thought_parts = self._shows_thought_part()
        shows_tools = "tools" in variables
        calls = SampleCalls(self._written)
        has_calls = shows_tools or calls.are_written
        self.call_form = _call_form(tool_format, source, calls) if has_calls else None
        is_known = self.call_form is not None or (OPEN in source and calls.may_be_hermes)
        self.carries_tools = shows_tools and is_known
        self.carries_calls = is_known and (shows_tools or calls.are_written)
        self.writes_calls = calls.are_written  # those of a history
        self.wants_argument_text = self.carries_calls and calls.want_text
        self.wants_null_content = self.carries_calls and calls.want_null

    @property
    def reads_thoughts(self) -> bool:
        """Whether thoughts that come back with an answer can reach a prompt."""
        return bool(self._thought_names | self.for_tools._thought_names)

    def _show_user(self, tools: Sequence[Mapping[str, Any]] | None) -> ChatTemplateError | None:
        """What keeps a user's message from the prompt. Templates of models that also see may read a
        list of parts and drop a plain text."""
        try:
            is_shown = _CANARY in self.render([{"role": "user", "content": _CANARY}], tools=tools)
        except ChatTemplateError as failure:
            return failure
        lost = ChatTemplateError("The chat template is broken: it drops a user's message.")
        return None if is_shown else lost

    def _shows_system(self) -> bool:
        """Whether a system message in front reaches the model: some templates drop or refuse it."""
        messages = [{"role": "system", "content": _CANARY}, {"role": "user", "content": "Hi"}]
        try:
            return _CANARY in self.render(messages)
        except ChatTemplateError:
            return False

    def _shows_thought_part(self) -> bool:
        """Whether an answer's thoughts are a part of its content, as in Mistral's templates."""
        if self.reasoning_form is None or "thinking" not in self._thought_names:
            return False
        parts = [{"type": "thinking", "thinking": _CANARY}]
        user = {"role": "user", "content": "Hi"}
        messages: list[Message] = [user, {"role": "assistant", "content": parts}]
        return f"{self.reasoning_form.open}{_CANARY}" in (self._written(messages) or "")

    def _written(self, messages: Sequence[Message]) -> str | None:
        try:
            return self.render(messages)
        except ChatTemplateError:
            return None

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt as text, for people: special tokens and their spelling look the same in it."""
        rendered = self._render(
            messages, add_generation_prompt, continue_final_message, tools, variables
        )
        return rendered.replace(MARK, "")

    def encode(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
    ) -> list[int]:
        """The prompt's token ids.

        With `continue_final_message` the last message, an assistant's, is left open: the prompt
        stops right after its content (and `add_generation_prompt` has no effect). `variables` are
        what a request says to the template by name. A message's `reasoning_content` reaches a
        template that reads it by any of its names. Raises
        `ChatTemplateError`, `PromptTooLong` before tokenizing what cannot fit `max_tokens`,
        ValueError if it cannot tokenize.
        """
        rendered = self._render(
            messages, add_generation_prompt, continue_final_message, tools, variables
        )
        if max_tokens is not None:
            fewest = fewest_tokens(rendered.replace(MARK, ""), self._tokenizer)
            if fewest > max_tokens:
                raise PromptTooLong(fewest, max_tokens)
        return self._specials.encode(rendered)

    def _render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        continue_final_message: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any] | None,
    ) -> str:
        """The rendered text, with its marks."""
        marked = [self._mark_message(message) for message in messages]
        trailing = mark_end(marked) if continue_final_message else ""
        if trailing is None:
            raise ChatTemplateError(
                "'continue_final_message' needs a last message of role assistant with text content."
            )
        if self._wants_thought_parts:
            marked = [with_thought_part(message) for message in marked]
        rendered = self._run_with(
            None if tools is None else [self._specials.mark(dict(tool)) for tool in tools],
            messages=[in_parts(each) for each in marked] if self._wants_parts else marked,
            add_generation_prompt=add_generation_prompt and not continue_final_message,
            **{**self._constants, **self._specials.mark_variables(variables or {})},
        )
        if not continue_final_message:
            return rendered
        begun = cut_at_mark(rendered, trailing)
        if begun is None:
            raise ChatTemplateError("The model's chat template cannot continue a message.")
        return begun

    def _mark_message(self, message: Message) -> dict[str, Any]:
        role = message.get("role")
        if role not in ROLES:
            raise ChatTemplateError(f"'role' must be one of {', '.join(ROLES)}.")
        marked = self._specials.mark(dict(message))
        if role == "developer" and not self._knows_developer:
            marked["role"] = "system"
        thought = marked.pop("reasoning_content", None)
        if thought is not None:
            marked |= dict.fromkeys(self._thought_names, thought)
        return marked

    def _run_with(self, tools: Sequence[Mapping[str, Any]] | None, **variables: Any) -> str:
        """With the tools in the first form that the template can render."""
        first_failure: ChatTemplateError | None = None
        for readable in readable_forms(tools):
            try:
                return self._run(tools=readable, **variables)
            except _TemplateFailure as failure:
                first_failure = first_failure or failure
        raise first_failure or ChatTemplateError("The model's chat template renders nothing.")

    def _run(self, **variables: Any) -> str:
        try:
            return self._sandbox.run(self._template, variables)
        except TemplateRefusal as refusal:
            text = str(refusal).replace(MARK, "") or "The chat template refuses these messages."
            raise ChatTemplateError(text[:MAX_REFUSAL_CHARS]) from refusal
        except SecurityError as error:
            limit = str(error).replace(MARK, "").rstrip(".")
            raise ChatTemplateError(
                f"The model's chat template cannot render these messages: {limit:.200}."
            ) from error
        except Exception as error:  # a template is foreign code: it may fail in any way
            reason = str(error).replace(MARK, "").rstrip(".") or type(error).__name__
            raise _TemplateFailure(
                f"The model's chat template cannot render these messages: {reason:.200}."
            ) from error


def _reasoning_form(name: str, source: str, tokenizer: TokenizerLike) -> ReasoningForm | None:
    if name == AUTO:
        return find_reasoning_form(source, tokenizer)
    return None if name == NONE else REASONING_FORMS[name]


def _call_form(name: str, source: str, calls: SampleCalls) -> CallForm | None:
    return CALL_FORMS.get(name) if name != AUTO else calls.find_form(signed_forms(source))


def _attributes(tree: nodes.Template) -> set[str]:
    """What a template looks up in objects: `message.content`, `message["content"]`,
    `"content" in message`."""
    names = {node.attr for node in tree.find_all(nodes.Getattr)}
    return names | {n.value for n in tree.find_all(nodes.Const) if isinstance(n.value, str)}


def _literal(tokenizer: TokenizerLike, token_id: int | None) -> str:
    literals = [text for text, i in tokenizer.special_tokens.items() if i == token_id]
    return literals[0] if literals else ""
