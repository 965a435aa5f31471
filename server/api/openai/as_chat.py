"""What the other dialects share: a request becomes a chat request, an error speaks the caller's
words.

A dialect's own model checks types and ranges at its own paths; all that chat checks too (limits
between fields, the room in the context, tools, schemas) is checked by chat, once, and the error's
path is said in the dialect's words.
"""

from thirdeye.server.api.field_rules.renamed_fields import FieldNames, renaming_fields
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.request_rules import check_common
from thirdeye.server.api.generation.thinking import plan_thinking
from thirdeye.server.api.openai.chat import check_chat, encode_chat, plan_chat
from thirdeye.server.api.openai.completions import check_completion, plan_completion
from thirdeye.server.api.openai.schema import ChatRequest, CompletionRequest
from thirdeye.server.api.openai.tools.tool_use import tool_use
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.api.state.grammar_cache import Grammars
from thirdeye.server.api.state.server_state import ServedModel


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
        return planned.renamed(names)


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
        return (await plan_completion(body, model, grammars, caller)).renamed(names)


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
