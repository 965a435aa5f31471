"""The published schemas of the APIs we speak, as judges: OpenAI's 2.3.0, Open Responses' and
Anthropic's.

They are the files that `llm-comply` carries, so what passes here passes there. An answer is judged
by the schema its route has in the publisher's own document:

    faults_of_answer("/v1/chat/completions", 200, answer)    a whole answer, or an error
    faults_of_event("/v1/chat/completions", chunk)           one event of a stream

Both give the faults found, as sentences; an empty list is a pass. Routes that are nobody's but ours
pass unjudged. `KNOWN_DEVIATIONS` says where the document is wrong about what its publisher sends.
"""

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema_rs import Draft202012Validator

Json = Any
SPECS = {"openai": "openai_chat", "openresponses": "openresponses", "anthropic": "anthropic"}

# (publisher, schema) of a route's whole answer, and of an event of its stream.
ANSWERS: dict[str, list[tuple[str, str]]] = {
    "/chat/completions": [("openai", "CreateChatCompletionResponse")],
    "/completions": [("openai", "CreateCompletionResponse")],
    "/embeddings": [("openai", "CreateEmbeddingResponse")],
    "/models": [("openai", "ListModelsResponse")],
    "/models/": [("openai", "Model")],
    "/responses": [("openai", "Response"), ("openresponses", "ResponseResource")],
    "/messages": [("anthropic", "Message")],
    "/messages/count_tokens": [("anthropic", "CountMessageTokensResponse")],
}
EVENTS: dict[str, list[tuple[str, str]]] = {
    "/chat/completions": [("openai", "CreateChatCompletionStreamResponse")],
    "/completions": [("openai", "CreateCompletionResponse")],
    "/messages": [("anthropic", "MessageStreamEvent")],
}
ERRORS = {"openai": ("openai", "ErrorResponse"), "anthropic": ("anthropic", "ErrorResponse")}

KNOWN_DEVIATIONS = {
    "/chat/completions": "The document is older than custom tools, which OpenAI's package has.",
    "/completions": "A chunk has the schema of the whole answer, whose finish_reason is never null "
    "and whose usage is an object; OpenAI sends null in both until the end. With 'echo' the first "
    "prompt token has no logprob: OpenAI, vLLM and lm-eval have null there.",
    "/responses": "Until the end 'usage' is null: Open Responses wants the key, OpenAI sends null "
    "and its document knows none. Open Responses has only null for the schema of 'text.format', "
    "which OpenAI's document has as an object, and OpenAI sends. The document is older than a "
    "'tool_choice' of type allowed_tools, which Open Responses and OpenAI's package know; both are "
    "older than custom tools and namespaces of tools, which OpenAI's package has.",
    "/messages": "A stream may hold `ping` events; the document has none, Anthropic's pages do.",
    "/embeddings": "With encoding_format base64 'embedding' is a string; the schema has the list.",
}


@cache
def validator(publisher: str, name: str) -> Draft202012Validator:
    """The schema `name` with what it refers to and nothing else: the whole documents are huge."""
    document = _document(publisher)
    schemas = {found: copy.deepcopy(document[found]) for found in _closure(document, name)}
    for route in schemas.values():
        _nullable_to_null(route)
    reference = {"$ref": f"#/components/schemas/{name}"}
    return Draft202012Validator(reference | {"components": {"schemas": schemas}})


@cache
def _document(publisher: str) -> dict[str, Any]:
    text = files("llm_comply.specs").joinpath(f"{SPECS[publisher]}.json").read_text("utf-8")
    schemas: dict[str, Any] = json.loads(text)["components"]["schemas"]
    return schemas


def _closure(document: dict[str, Any], name: str) -> set[str]:
    """Every schema that `name` reaches, itself among them."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting += _references(document[here])
    return found


def _references(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _nullable_to_null(node: Json) -> None:
    """OpenAPI 3.0's `nullable: true` in the words of JSON Schema, in place."""
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        _nullable_to_null(child)
    if isinstance(node, dict) and node.get("nullable") is True:
        inner = {key: child for key, child in node.items() if key != "nullable"}
        node.clear()
        node["anyOf"] = [inner, {"type": "null"}]


def faults(value: Json, publisher: str, name: str) -> list[str]:
    """What is wrong with `value` by the schema `name`, each with its place."""
    return [
        f"{publisher} {name} at /{'/'.join(map(str, error.instance_path))}: {error.message[:300]}"
        for error in validator(publisher, name).iter_errors(value)
    ]


def faults_of_answer(path: str, status: int, value: Json) -> list[str]:
    """What is wrong with a whole answer of the route at `path`, by its publishers' schemas."""
    route = route_of(path)
    if route is None:
        return []
    if status >= 400:
        return faults(value, *ERRORS[_speaker(route)])
    return [
        fault
        for publisher, name in ANSWERS[route]
        for fault in faults(_excused(route, value, publisher), publisher, name)
    ]


def faults_of_event(path: str, value: Json) -> list[str]:
    """What is wrong with one event of a stream of the route at `path`."""
    route = route_of(path)
    if route is None:
        return []
    if route == "/responses" and value.get("type", "").startswith(CUSTOM_EVENTS):
        return []
    if route == "/responses":
        return faults(
            _excused(route, value, "openai"), "openai", "ResponseStreamEvent"
        ) + _open_responses_event(_excused(route, value, "openresponses"))
    if value == {"type": "ping"} and route == "/messages":
        return []
    if "error" in value:
        return faults(value, *ERRORS[_speaker(route)])
    schemas = EVENTS.get(route)
    if schemas is None:
        return [f"{route} answered with a stream"]
    if route == "/completions":
        value = _as_last_chunk(value)
    return [
        fault
        for publisher, name in schemas
        for fault in faults(_excused(route, value, publisher), publisher, name)
    ]


NEWER_EFFORTS = ("none", "minimal", "xhigh", "max")  # than this edition of OpenAI's schema
SUMMARY_EVENTS = {  # which the schema has, and the tool's list of names does not
    "response.reasoning_summary_text.delta": "ResponseReasoningSummaryDeltaStreamingEvent",
    "response.reasoning_summary_text.done": "ResponseReasoningSummaryDoneStreamingEvent",
}


def _open_responses_event(value: Json) -> list[str]:
    from llm_comply.schema import SSE_EVENT_TO_SCHEMA

    kind = value.get("type")
    name = SSE_EVENT_TO_SCHEMA.get(kind) or SUMMARY_EVENTS.get(kind)
    if name is None:
        return [f"openresponses has no event of type {value.get('type')!r}"]
    return faults(value, "openresponses", name)


def route_of(path: str) -> str | None:
    """`/v1/models/tiny` and `/models/tiny` -> `/models/`; None for what is ours alone."""
    path = path.removeprefix("/v1").partition("?")[0].removesuffix("/")
    if path in ("/models/load", "/models/unload"):
        return None
    if path.startswith("/models/"):
        return "/models/"
    return path if path in ANSWERS else None


def _speaker(route: str) -> str:
    return "anthropic" if route.startswith("/messages") else "openai"


def _as_last_chunk(value: Json) -> Json:
    """A completions chunk with the nulls that stand for "not yet" replaced or left out."""
    value = copy.deepcopy(value)
    for choice in value.get("choices", []):
        if choice.get("finish_reason", "") is None:
            choice["finish_reason"] = "stop"
    if value.get("usage", "") is None:
        del value["usage"]
    return value


def _excused(route: str, value: Json, publisher: str) -> Json:
    """The value without its known deviations; see `KNOWN_DEVIATIONS`."""
    value = copy.deepcopy(value)
    if route == "/chat/completions":
        _excuse_chat(value)
    if route == "/responses":
        _excuse_response(value.get("response", value), publisher)
    if route == "/completions":
        for choice in value.get("choices", []):
            _drop_unscored(choice.get("logprobs"))
    if route == "/embeddings":
        for item in value.get("data", []):
            if isinstance(item.get("embedding"), str):
                item["embedding"] = []
    return value


def _excuse_chat(answer: Json) -> None:
    """Calls of custom tools are those of functions."""
    for choice in answer.get("choices", []):
        said = choice.get("message") or choice.get("delta") or {}
        for call in said.get("tool_calls", []):
            if isinstance(custom := call.pop("custom", None), dict):
                custom["arguments"] = custom.pop("input")
                call |= {"function": custom} | ({"type": "function"} if "type" in call else {})


CUSTOM_EVENTS = "response.custom_tool_call_input."


def _as_function(value: Json) -> None:
    """A custom tool, or a call of one, as the function that these editions know."""
    if value.get("type") == "custom_tool_call":
        value["type"], value["arguments"] = "function_call", value.pop("input")
    elif value.get("type") == "custom":
        value.pop("format", None)
        value |= {"type": "function", "parameters": {}, "strict": False}
        value.setdefault("description", None)


def _excuse_response(response: Json, publisher: str) -> None:
    """A response, whole or in an event; other events have nothing to excuse."""
    if publisher == "openai" and response.get("usage", "") is None:
        del response["usage"]
    thinks = response.get("reasoning")
    if publisher == "openai" and isinstance(thinks, dict) and thinks.get("effort") in NEWER_EFFORTS:
        thinks["effort"] = None
    if isinstance(tools := response.get("tools"), list):
        response["tools"] = [inner for tool in tools for inner in tool.get("tools", [tool])]
    for found in (
        *response.get("output", ()),
        *response.get("tools", ()),
        response.get("item", {}),
    ):
        _as_function(found)
    choice = response.get("tool_choice")
    if isinstance(choice, dict):
        for named in (choice, *choice.get("tools", ())):
            named["type"] = "function" if named["type"] == "custom" else named["type"]
    if publisher == "openai" and isinstance(choice, dict) and choice["type"] == "allowed_tools":
        response["tool_choice"] = choice["mode"]
    wanted = response.get("text")
    if isinstance(wanted, dict) and publisher == "openresponses" and "schema" in wanted["format"]:
        wanted["format"]["schema"] = None


def _drop_unscored(logprobs: Json) -> None:
    """The prompt's first token, which has no logprob."""
    if logprobs and logprobs.get("token_logprobs", [])[:1] == [None]:
        for values in logprobs.values():
            del values[0]
