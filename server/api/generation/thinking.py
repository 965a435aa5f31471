"""What a request's words about thinking come to: variables of the template, and terms for the
engine and the text.

A template with a switch (`enable_thinking`, `thinking`) or a level (`reasoning_effort`) is told by
it. What it has no word for is held by closing the thinking: a budget after so many tokens, "off" at
once. To a model that does not think all of it is a hint, and the answer says that it was one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.reasoning.reasoning_fields import ReasoningFields
from thirdeye.server.api.requests.value_readers import printable
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.types import Thinking
from thirdeye.server.text.constraints.constraint import behind
from thirdeye.server.text.reasoning.reasoning_form import HARMONY, PromptState, ReasoningForm

Value = TypeVar("Value")

SWITCHES = ("enable_thinking", "thinking")  # what templates call it
LEVEL, BUDGET = "reasoning_effort", "thinking_budget"
_APART = "is not supported here: thoughts stand apart from the content, in 'reasoning_content'."
_HARMONY_LEVELS = {"minimal": "low", "xhigh": "high", "max": "high"}


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """What is decided before the prompt is rendered."""

    variables: Mapping[str, object] = field(default_factory=dict)  # for the template
    budget: int | None = None  # tokens
    is_shown: bool = True
    ignored: Sequence[str] = ()  # fields without effect on this model


@dataclass(frozen=True, slots=True)
class ThoughtTerms:
    """How an answer thinks. Without a form it does not, or its prompt has closed it."""

    form: ReasoningForm | None = None
    state: PromptState = PromptState.UNDECIDED
    is_shown: bool = True
    engine: Thinking | None = None  # None: nothing has to be held
    call_id: int | None = None  # the token that ends open thinking, for it begins a call
    grammar: str = ""  # of the whole behind the thinking


NO_THOUGHTS = ThoughtTerms()


def plan_thinking(body: ReasoningFields, model: ServedModel) -> ThinkingPlan:
    """Raises `InvalidRequest` for fields that contradict each other, and for a variable that the
    template does not read."""
    template = model.template
    sent = checked_variables(body.chat_template_kwargs, model)
    is_on = _agreed(body.switches(), "whether to think")
    effort = _agreed(body.efforts(), "how hard to think")
    budget = _agreed(body.budgets(), "the budget")
    if template is None or template.reasoning_form is None:
        asking = [name for name, says in body.switches() if says]
        ignored = [*asking, *(name for name, _ in body.budgets())]
        return ThinkingPlan(sent, ignored=[*dict.fromkeys(ignored)])
    for name in body.mixed() if is_on is not False else ():
        raise refuse(name, _APART, "unsupported_value")
    known = template.variables
    said = dict(_variables(template.reasoning_form, known, is_on, effort, budget))
    if is_on is False and not said:
        budget = 0
    elif budget == -1:
        budget = None
    ignored = []
    if effort not in (None, "none") and LEVEL not in known:
        ignored = [name for name, _ in body.efforts()]
    return ThinkingPlan(said | sent, budget, body.shows_reasoning, ignored)


def checked_variables(sent: dict[str, object], model: ServedModel) -> dict[str, object]:
    """What a request says to the template by name. Raises `InvalidRequest` for a name that it does
    not read."""
    known = model.template.variables if model.template else frozenset()
    for name in sent:
        if name not in known:
            reads = ", ".join(sorted(known)) or "none"
            rule = f"is not read by the model's chat template: its variables are {reads}."
            raise refuse(f"chat_template_kwargs.{printable(name[:40])}", rule, "unknown_parameter")
    return sent


def _variables(
    form: ReasoningForm,
    known: frozenset[str],
    is_on: bool | None,
    effort: str | None,
    budget: int | None,
) -> Iterator[tuple[str, object]]:
    """What the template has words for."""
    if is_on is not None:
        yield from ((name, is_on) for name in SWITCHES if name in known)
    if LEVEL in known and effort not in (None, "none"):
        yield LEVEL, _HARMONY_LEVELS.get(effort, effort) if form is HARMONY else effort
    if BUDGET in known and budget is not None and budget >= 0:
        yield BUDGET, budget


def _agreed(said: Iterator[tuple[str, Value]], what: str) -> Value | None:
    """The one value of all fields that say something."""
    values = [*said]
    for name, value in values[1:]:
        if value != values[0][1]:
            raise refuse(name, f"must agree with '{values[0][0]}' about {what}.")
    return values[0][1] if values else None


def thought_terms(
    plan: ThinkingPlan,
    prompt_ids: list[int],
    model: ServedModel,
    *,
    grammar: str,
    is_headed: bool = False,
    call_mark: str = "",
    min_tokens: int,
) -> ThoughtTerms:
    """The terms of an answer to this prompt, whose last tokens may have begun the thinking.
    `is_headed`: the grammar has what stands between the thinking and the answer. `call_mark`: what
    calls begin with; a model that has a token for it and thinks on has begun to call all the same.
    """
    form = model.template.reasoning_form if model.template else None
    state = form.state_after(prompt_ids, model.tokenizer) if form else PromptState.CLOSED
    if form is None or (state is PromptState.CLOSED and form is not HARMONY):
        return ThoughtTerms(grammar=grammar)
    if grammar:
        grammar = behind("" if is_headed else form.answer, grammar)
    encode = model.tokenizer.encode_with_special
    marks = encode(call_mark) if call_mark and form is not HARMONY else []
    call_id = marks[0] if len(marks) == 1 else None
    if not grammar and plan.budget is None and not min_tokens:
        return ThoughtTerms(form, state, plan.is_shown, call_id=call_id)
    engine = Thinking(
        open_ids=[] if state is PromptState.OPEN else encode(form.open.rstrip()),
        close_ids=encode(form.close),
        call_id=call_id,
        max_tokens=plan.budget,
        min_tokens=min_tokens,
    )
    return ThoughtTerms(form, state, plan.is_shown, engine, call_id, grammar)
