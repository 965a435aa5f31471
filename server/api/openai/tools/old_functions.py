"""OpenAI's deprecated functions as tools: the same models, prompts and grammars serve both.

functions, function_call     -> tools, tool_choice, one call at most
assistant's function_call    -> a call with an id made of its number
role function                -> the result of the call before it
"""

from collections.abc import Iterator, Sequence

from thirdeye.server.api.field_rules.renamed_fields import FieldNames
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.openai.schema import (
    AssistantMessage,
    ChatRequest,
    FunctionMessage,
    Message,
    ToolCall,
    ToolMessage,
)

FUNCTION_NAMES: FieldNames = [
    (r"tools\[(\d+)\]\.function", r"functions[\1]"),
    (r"tools", "functions"),
    (r"tool_choice", "function_call"),
]


def check_functions(body: ChatRequest) -> None:
    """Raises `InvalidRequest` for both forms at once, and a choice of nothing."""
    if not body.functions:
        if body.function_call is not None and body.function_call.name is not None:
            raise refuse("function_call", "must be 'none' or 'auto' without 'functions'.")
        return
    for name in ("tools", "tool_choice"):
        if getattr(body, name):
            raise refuse("functions", f"cannot go with '{name}': it is the older form of 'tools'.")


def with_tools(body: ChatRequest) -> ChatRequest:
    """The request with its functions as tools."""
    if not body.functions:
        return body
    as_tools = {"tools": body.functions, "tool_choice": body.function_call}
    return body.model_copy(update=as_tools | {"parallel_tool_calls": False, "functions": ()})


def names_of(body: ChatRequest) -> FieldNames:
    """What the sender calls the fields that `with_tools` gives."""
    return FUNCTION_NAMES if body.functions else ()


def with_calls(messages: Sequence[Message]) -> Iterator[Message]:
    """The conversation with its function calls as calls of tools."""
    num_calls, call_id = 0, ""
    for i, message in enumerate(messages):
        match message:
            case AssistantMessage(function_call=function) if function is not None:
                if message.tool_calls:
                    rule = "cannot go with 'tool_calls': it is the older form of one."
                    raise refuse(f"messages[{i}].function_call", rule)
                num_calls += 1
                call_id = f"call{num_calls:05}"  # of a form that every template takes
                call = ToolCall(id=call_id, function=function)
                yield message.model_copy(update={"function_call": None, "tool_calls": [call]})
            case FunctionMessage():
                if not call_id:
                    rule = "needs a 'function_call' of the assistant before it."
                    raise refuse(f"messages[{i}].role", rule)
                yield ToolMessage(
                    role="tool", content=message.content, name=message.name, tool_call_id=call_id
                )
            case _:
                yield message
