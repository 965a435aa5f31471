"""What the other dialects share: a request becomes a chat request, an error speaks the caller's
words.

A dialect's own model checks types and ranges at its own paths; all that chat checks too (limits
between fields, the room in the context, tools, schemas) is checked by chat, once, and the error's
path is said in the dialect's words.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.request_rules import check_common
from thirdeye.server.api.generation.thinking import plan_thinking
from thirdeye.server.api.openai.chat import check_chat, encode_chat, plan_chat
from thirdeye.server.api.openai.completions import check_completion, plan_completion
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest
from thirdeye.server.api.openai.tool_use import tool_use
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.api.state.grammar_cache import Grammars
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest

# (pattern of the start of a chat path, what the dialect calls it), the first that fits counts.
FieldNames = Sequence[tuple[str, str]]


async def plan_as_chat(
    chat: JsonObject,
    model: ServedModel,
    grammars: Grammars,
    caller: str,
    *,
    id_prefix: str,
    names: FieldNames,
) -> Generation:
    """Engine requests of a request in chat's words. Raises `InvalidRequest` in the dialect's."""
    with renaming_fields(names):
        body = _checked(chat, model)
        planned = await plan_chat(body, model, grammars, caller, id_prefix)
        return _renamed_plan(planned, names)


async def plan_as_completion(
    completion: JsonObject,
    model: ServedModel,
    grammars: Grammars,
    caller: str,
    *,
    names: FieldNames,
) -> Generation:
    """The same of a request in the words of completions."""
    with renaming_fields(names):
        body = parse(CompletionRequest, completion)
        check_common(body, model)
        check_completion(body, model)
        return _renamed_plan(await plan_completion(body, model, grammars, caller), names)


async def count_as_chat(chat: JsonObject, model: ServedModel, names: FieldNames) -> int:
    """How many tokens the prompt has, whether or not it fits. Raises as `plan_as_chat`."""
    with renaming_fields(names):
        return len(await prompt_ids(_checked(chat, model), model))


async def prompt_ids(body: ChatRequest, model: ServedModel) -> list[int]:
    """The prompt of a checked request, whether or not it fits."""
    tools, thinking = tool_use(body, model), plan_thinking(body, model)
    return await encode_chat(body, model, tools, thinking, is_bounded=False)


def _checked(chat: JsonObject, model: ServedModel) -> ChatRequest:
    body = parse(ChatRequest, chat)
    check_common(body, model)
    check_chat(body)
    return body


def _renamed_plan(planned: Generation, names: FieldNames) -> Generation:
    limit = planned.limit and replace(planned.limit, param=_path(planned.limit.param, names))
    return replace(planned, limit=limit, ignored=[_path(n, names) for n in planned.ignored])


@contextmanager
def renaming_fields(names: FieldNames) -> Iterator[None]:
    """An `InvalidRequest` from inside leaves in the dialect's words."""
    try:
        yield
    except InvalidRequest as error:
        raise renamed(error, names) from None


def renamed(error: InvalidRequest, names: FieldNames) -> InvalidRequest:
    """The error with every path in the dialect's names: `param`, and what the message quotes."""
    message = re.sub(r"'([\w.\[\]]+)'", lambda m: f"'{_path(m[1], names)}'", error.message)
    param = None if error.param is None else _path(error.param, names)
    return error.renamed(message, param)


def _path(path: str, names: FieldNames) -> str:
    for pattern, name in names:
        changed, times = re.subn(rf"^{pattern}(?=$|[.\[])", name, path)
        if times:
            return changed
    return path
