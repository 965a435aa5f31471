"""From a request's tool fields to what the answer may do with tools: the rules between them."""

import json

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.openai.schema import ChatRequest
from thirdeye.server.api.openai.tools.old_functions import with_tools
from thirdeye.server.api.state.grammar_cache import Grammars, refused
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.tools.call_grammar import ToolGrammarError, tool_grammar
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolChoice, ToolUse
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.form_grammar import form_grammar


def tool_use(body: ChatRequest, model: ServedModel) -> ToolUse | None:
    """The tools of a chat request; None without any. Raises `InvalidRequest`."""
    body = with_tools(body)
    choice = body.tool_choice
    if not body.tools:
        if choice is not None and choice.mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED):
            raise refuse("tool_choice", "must be 'none' or 'auto' without 'tools'.")
        return None
    if model.template is None:
        raise InvalidRequest(
            f"'tools' cannot be used: model '{model.names[0]}' has no chat template.",
            param="tools",
            code="tools_not_supported",
        )
    choice = choice or ToolChoice(ChoiceMode.AUTO)
    check_choice(choice, body.tools)
    if body.ignore_eos and choice.mode is not ChoiceMode.NONE:
        raise refuse("ignore_eos", "cannot go with 'tools': a grammar says when an answer ends.")
    return ToolUse(body.tools, choice, body.parallel_tool_calls, body.max_tool_calls)


async def compile_tools(
    tools: ToolUse | None,
    content: str,
    grammars: Grammars,
    caller: str,
    form: CallForm | None = None,
) -> tuple[str, list[str]]:
    """The grammar of an answer with these tools, calls in this form (None: Hermes'), that of its
    content without any; and the paths of what it does not hold of the tools' schemas.

    Raises `InvalidRequest` for a strict tool whose schema cannot be followed.
    """
    if tools is None or not tools.may_call:
        return content, []

    def make() -> str:
        left_out: list[tuple[int, str]] = []
        try:
            if form is not None:
                grammar = form_grammar(tools, form, content, left_out)
            else:
                grammar = tool_grammar(tools, content, left_out)
        except ToolGrammarError as error:
            is_custom = tools.tools[error.index].text_input is not None
            told = ConstraintError(error.rule) if is_custom else error  # its schema is ours
            raise refused(_schema_of(tools, error.index), told) from None
        return json.dumps([grammar, [_schema_of(tools, i) + path[1:] for i, path in left_out]])

    definitions = [tool.definition for tool in tools.tools]
    choice = [tools.choice.mode, tools.choice.name, tools.choice.allowed, tools.repetition]
    sent = [[tool.strict, tool.parameters.get("type")] for tool in tools.tools]
    key = json.dumps(["tools", form.name if form else "", definitions, sent, choice, content])
    made = await grammars.compile(make, key=key, param="tools", caller=caller)
    grammar, left_out = json.loads(made)
    return grammar, left_out


def _schema_of(tools: ToolUse, index: int) -> str:
    """The field that says what a tool is called with."""
    is_custom = tools.tools[index].text_input is not None
    return f"tools[{index}].{'custom.format' if is_custom else 'function.parameters'}"


def check_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> None:
    """Raises `InvalidRequest` for a choice of tools that are not there."""
    names = [tool.name for tool in tools]
    chosen = [choice.name] if choice.mode is ChoiceMode.NAMED else choice.allowed or ()
    if not set(names).issuperset(chosen):
        raise refuse("tool_choice", f"must name one of the tools: {', '.join(names)}.")
