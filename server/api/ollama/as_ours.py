"""Ollama's requests in chat's words, or, where no template is wanted, in those of completions.

A call without an id is given one, and a result without one belongs to the earliest call that waits
for it, of the function that it names.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from thirdeye.server.api.field_rules.renamed_fields import FieldNames
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.ollama.sampling_options import OllamaOptions
from thirdeye.server.api.ollama.schema import (
    OllamaAsked,
    OllamaAssistantTurn,
    OllamaCall,
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaTool,
    OllamaToolTurn,
    Turn,
)

_ALIKE = (
    *("temperature", "top_k", "top_p", "min_p"),
    *("presence_penalty", "frequency_penalty", "seed"),
    *("repeat_last_n", "penalize_newline"),
)
FIELD_NAMES: FieldNames = [
    (r"continue_final_message", "messages"),
    (r"max_(completion_)?tokens", "options.num_predict"),
    (r"response_format\.json_schema\.schema", "format"),
    (r"response_format", "format"),
    (r"penalize_newline", "options.penalize_newline"),
]
GENERATE_NAMES: FieldNames = [(r"messages(\[\d+\].*)?", "prompt"), *FIELD_NAMES]


def chat_of(body: OllamaChatRequest) -> JsonObject:
    """A last message of the assistant is continued."""
    chat = _asked(body) | {"messages": messages_of(body.messages)}
    if isinstance(last := body.messages[-1], OllamaAssistantTurn):
        if last.tool_calls:
            raise refuse("messages", "must not end with a call: send its result.")
        chat["continue_final_message"] = True
    if body.tools:
        chat["tools"] = [_tool(tool) for tool in body.tools]
    return chat


def unread_turns(turns: Sequence[Turn], reads_thoughts: bool) -> list[str]:
    """The paths of thoughts that reach no prompt."""
    return [
        f"messages[{i}].thinking"
        for i, turn in enumerate(turns)
        if isinstance(turn, OllamaAssistantTurn) and turn.thinking and not reads_thoughts
    ]


def prompt_as_chat(body: OllamaGenerateRequest) -> JsonObject:
    messages = [{"role": "user", "content": body.prompt}]
    if body.system:
        messages.insert(0, {"role": "system", "content": body.system})
    return _asked(body) | {"messages": messages}


def completion_of(body: OllamaGenerateRequest) -> JsonObject:
    """The text as it is, in the words of completions. Raises `InvalidRequest` for what only a
    template could tell the model."""
    for name in ("system", "think"):
        if getattr(body, name):
            raise refuse(
                name, "needs the chat template, which is not used: write it into 'prompt'."
            )
    if body.top_logprobs and not body.logprobs:
        raise refuse("top_logprobs", "needs 'logprobs': true.")
    limit = body.options.num_predict
    return {
        "model": body.model,
        "stream": body.stream,
        "prompt": body.prompt,
        "max_tokens": -1 if limit is None else limit,
        "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        **_sampling(body.options),
        **_form(body),
    }


def _asked(body: OllamaAsked) -> JsonObject:
    """All but the messages. What was left out stays out."""
    chat: JsonObject = {"model": body.model, "stream": body.stream, "think": body.think}
    chat |= {"logprobs": body.logprobs, "top_logprobs": body.top_logprobs}
    if "num_predict" in body.options.model_fields_set:
        limit = body.options.num_predict
        chat["max_completion_tokens"] = -1 if limit is None else limit
    return chat | _sampling(body.options) | _form(body)


def _sampling(options: OllamaOptions) -> JsonObject:
    named = options.model_fields_set
    chat: JsonObject = {name: getattr(options, name) for name in _ALIKE if name in named}
    if chat.get("seed") == -1:
        del chat["seed"]
    if options.stop:
        chat["stop"] = list(options.stop)
    if "repeat_penalty" in named:
        chat["repetition_penalty"] = options.repeat_penalty
    return chat


def _form(body: OllamaAsked) -> JsonObject:
    """What the answer has to look like."""
    if body.format is None:
        return {}
    if isinstance(body.format, str):
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "format", "schema": body.format}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _tool(tool: OllamaTool) -> JsonObject:
    """What is null may be so in chat, too."""
    function = tool.function
    parts = {"description": function.description, "parameters": function.parameters}
    return {"type": "function", "function": {"name": function.name, **parts}}


@dataclass(slots=True)
class Calls:
    """The calls of a conversation so far that have no result yet, by their ids."""

    num_calls: int = 0
    waiting: dict[str, str] = field(default_factory=dict)  # id -> function

    def begin(self, call: OllamaCall) -> str:
        call_id = call.id or self._new_id()
        self.waiting[call_id] = call.function.name
        return call_id

    def end(self, turn: OllamaToolTurn) -> tuple[str, str | None]:
        """The id and the function of the call that this is the result of."""
        function = turn.tool_name or turn.name
        fits = (
            call_id
            for call_id, name in self.waiting.items()
            if turn.tool_call_id in (None, call_id) and function in (None, name)
        )
        found = turn.tool_call_id or next(fits, None) or self._new_id()
        name = self.waiting.pop(found, None)
        return found, function or name

    def _new_id(self) -> str:
        """The same for the same conversation, and of a form that every template takes."""
        self.num_calls += 1
        return f"call{self.num_calls:05}"


def messages_of(turns: Sequence[Turn]) -> list[JsonObject]:
    """Raises `InvalidRequest` for a result of two functions."""
    return [*_messages(turns, Calls())]


def _messages(turns: Sequence[Turn], calls: Calls) -> Iterator[JsonObject]:
    for i, turn in enumerate(turns):
        match turn:
            case OllamaAssistantTurn():
                yield _assistant(turn, calls)
            case OllamaToolTurn():
                if turn.name is not None and turn.tool_name not in (None, turn.name):
                    rule = "must equal 'tool_name' when both are given."
                    raise refuse(f"messages[{i}].name", rule)
                call_id, name = calls.end(turn)
                result: JsonObject = {"role": "tool", "content": turn.content}
                result |= {"tool_call_id": call_id, "name": name}
                yield result
            case _:
                yield {"role": turn.role, "content": turn.content}


def _assistant(turn: OllamaAssistantTurn, calls: Calls) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": turn.content}
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if turn.tool_calls:
        message["tool_calls"] = [_call(call, calls) for call in turn.tool_calls]
    return message


def _call(call: OllamaCall, calls: Calls) -> JsonObject:
    arguments = json.dumps(call.function.arguments, ensure_ascii=False)
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": calls.begin(call), "type": "function", "function": function}
