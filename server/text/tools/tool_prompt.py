"""Tools in a conversation, and what to do where the model's template does not know them.

Then they are message text, the same for every such model: the tools become a system text, an
assistant's calls become the text the model would have written, and what a tool answered becomes a
user's message, several in a row one message (many templates want user and assistant to take turns).
It is the form of `thirdeye.server.text.tools.form`, in words that many models were trained on.
A template that writes calls in its family's form and shows no tools, as DeepSeek's, gets the system
text alone, which says that form.
Special tokens are no matter here: all of this is message text, and
`thirdeye.server.text.templates.special_tokens` marks it as such.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tools.families.call_form import CallForm, CallIds
from thirdeye.server.text.tools.form import (
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    TAGS,
    write_call,
    write_response,
)

Message = Mapping[str, Any]
Definitions = Sequence[Mapping[str, Any]]  # tools, as `Tool.definition` gives them

TOOL_PROMPT = """\
# Tools

You may call one or more functions to help with the user's request. \
These are their signatures, as JSON within <tools></tools> tags:
<tools>
{definitions}
</tools>

{calling}"""
HERMES_CALLING = """\
To call a function, answer with its name and its arguments, as a JSON object within \
{open}{close} tags:
{open}
{{"name": <function-name>, "arguments": <arguments-object>}}
{close}

What it returns comes back within {response_open}{response_close} tags."""
FAMILY_CALLING = """\
To call a function, answer with its name and its arguments, as a JSON object, in this form:
{call}"""


def fit(
    messages: Sequence[Message], tools: Definitions | None, template: ChatTemplate
) -> tuple[list[Message], Definitions | None]:
    """What to give the template as messages and tools: as they are if it knows them."""
    if not template.carries_calls:
        return without_tools(messages, tools, takes_system=template.takes_system), None
    ids = template.call_form.ids if template.call_form else CallIds.ANY
    own = [*with_own_ids(messages, ids)]
    if not template.wants_argument_text:
        own = [_with_parsed_arguments(message) for message in own]
    if template.wants_null_content:
        own = [_with_null_content(message) for message in own]
    if template.carries_tools or not tools:
        return own, tools
    return _introduce(tool_prompt(tools, template.call_form), own, template.takes_system), None


def tool_prompt(tools: Definitions, form: CallForm | None = None) -> str:
    """The system text that lists the tools' definitions, one a line, and says how to call them:
    in this form, whose arguments are JSON, or in that of `thirdeye.server.text.tools.form`."""
    if form is None:
        calling = HERMES_CALLING.format(
            open=TAGS[0],
            close=TAGS[1],
            response_open=RESPONSE_OPEN,
            response_close=RESPONSE_CLOSE,
        )
    else:
        calling = FAMILY_CALLING.format(call=_example_of(form))
    definitions = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return TOOL_PROMPT.format(definitions=definitions, calling=calling)


def _example_of(form: CallForm) -> str:
    head = form.head_text.replace("NAME", "<function-name>").replace("INDEX", "0")
    call = f"{head}<arguments-object>{form.tail_text}"
    return f"{form.open_text}{call}{form.close_text}"


def without_tools(
    messages: Sequence[Message],
    tools: Definitions | None,
    *,
    takes_system: bool = True,
) -> list[Message]:
    """The conversation in plain messages. `takes_system`: the template has a place for a system
    message; without one the tools stand in front of the first user's message."""
    plain: list[Message] = []
    for is_tool, group in groupby(messages, key=lambda message: message.get("role") == "tool"):
        if is_tool:
            plain.append(_responses(group))
        else:
            plain.extend(_with_calls_as_text(message) for message in group)
    return _introduce(tool_prompt(tools), plain, takes_system) if tools else plain


def _responses(messages: Iterable[Message]) -> Message:
    answers = (write_response(message.get("content") or "") for message in messages)
    return {"role": "user", "content": "\n".join(answers)}


def _with_calls_as_text(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    functions = (call["function"] for call in calls)
    texts = [write_call(function["name"], function["arguments"]) for function in functions]
    content = message.get("content")
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return rest | {"content": "\n".join([content, *texts] if content else texts)}


def _introduce(prompt: str, messages: Sequence[Message], takes_system: bool) -> list[Message]:
    """The messages with `prompt` behind the system's text, or in front of the user's."""
    roles = [message.get("role") for message in messages]
    first, *rest = messages
    if roles[0] in ("system", "developer"):
        content = first["content"]
        return [{**first, "content": f"{content}\n\n{prompt}" if content else prompt}, *rest]
    if takes_system or "user" not in roles:
        return [{"role": "system", "content": prompt}, *messages]
    at = roles.index("user")
    asked = {**messages[at], "content": f"{prompt}\n\n{messages[at]['content']}"}
    return [*messages[:at], asked, *messages[at + 1 :]]


def with_own_ids(messages: Sequence[Message], ids: CallIds) -> Iterator[Message]:
    """The messages with ids of calls in the family's form, the same for a call and its result."""
    known: dict[str, str] = {}
    for message in messages:
        if ids is not CallIds.ANY and message.get("tool_calls"):
            calls = [{**call, "id": _own_id(call, ids, known)} for call in message["tool_calls"]]
            yield {**message, "tool_calls": calls}
        elif ids is not CallIds.ANY and message.get("tool_call_id") in known:
            yield {**message, "tool_call_id": known[message["tool_call_id"]]}
        else:
            yield message


def _own_id(call: Mapping[str, Any], ids: CallIds, known: dict[str, str]) -> str:
    sent = str(call["id"])
    if ids is CallIds.COUNTED:
        is_own = re.fullmatch(r"functions\..+:\d+", sent) is not None
        own = sent if is_own else f"functions.{call['function']['name']}:{len(known)}"
    else:
        is_own = len(sent) == 9 and sent.isascii() and sent.isalnum()
        own = sent if is_own else hashlib.sha256(sent.encode()).hexdigest()[:9]
    known[sent] = own
    return own


def _with_parsed_arguments(message: Message) -> Message:
    """The message as templates that know tools want it: a call's arguments are an object.

    A client may send back what `length` cut off: what is no JSON object stays the string it is.
    """
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_null_content(message: Message) -> Message:
    """A message of calls alone, as a template wants it that tells null from empty."""
    has_text = bool(message.get("content"))
    return message if has_text or not message.get("tool_calls") else {**message, "content": None}


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, TypeError, RecursionError):  # cut off, an object already, too deep
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
