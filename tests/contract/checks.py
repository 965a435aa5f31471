"""What schemathesis is to check besides its own: loaded by it, as `SCHEMATHESIS_HOOKS` says.

Every request that is valid by `/openapi.json` must be answered with 200, but for the few rules that
no schema can express (`UNTOLD` in `server/api/openapi/rules.py`); those are listed here by the
field and the code of their 400. And every answer is held against the published schemas.
"""

import re
from typing import Any

import schemathesis
from jsonschema_rs import validator_for

from tests.oracles.openai_schema import route_of
from tests.oracles.wire import JSON, Reading, Wire

# (param, code) of the 400s that a valid request may get.
UNTOLD = {
    ("messages", "context_length_exceeded"),
    ("prompt", "context_length_exceeded"),
    ("max_tokens", "integer_above_max_value"),  # more than the room beside the prompt
    ("max_completion_tokens", "integer_above_max_value"),
    ("max_tokens", "invalid_value"),  # not equal to max_completion_tokens
    ("min_tokens", "invalid_value"),  # above max_tokens
    ("best_of", "unsupported_value"),  # not n
    ("continue_final_message", "invalid_value"),  # the last message is not an assistant's
    ("structured_outputs", "invalid_value"),  # beside response_format
    ("ignore_eos", "invalid_value"),  # beside either of them
    ("messages.content", "missing_required_parameter"),  # nor tool_calls
    ("tools.function.name", "invalid_value"),  # not unique
    ("tools.custom.name", "invalid_value"),  # nor this
    ("lora_name", "invalid_value"),  # not printable, or taken
    ("lora_path", "invalid_value"),  # not where the operator said
    ("answer_token_ids", "invalid_value"),  # too many, or one that ends an answer
    ("allowed_token_ids", "invalid_value"),  # beside a budget of thinking
    ("messages.prefix", "invalid_value"),  # beside add_generation_prompt
    ("messages.partial", "invalid_value"),  # the same under another name
    ("tools", "invalid_value"),  # without messages
    ("tool_choice", "invalid_value"),  # without tools, or of another name
    ("parallel_tool_calls", "invalid_value"),  # without tools
    ("functions.name", "invalid_value"),  # not unique
    ("function_call", "invalid_value"),  # of another name
    ("messages.role", "invalid_value"),  # a function's result without a call before it
    ("messages.function_call", "invalid_value"),  # beside tool_calls
    ("penalize_newline", "unsupported_value"),  # false beside a penalty
    ("input", "context_length_exceeded"),
    ("input", "array_below_min_length"),  # all its items are of kinds that are left out
    ("max_output_tokens", "integer_above_max_value"),
    ("tools.name", "invalid_value"),  # not unique
    ("tools.tools.name", "invalid_value"),  # nor, with their namespace's
    ("tools.type", "unsupported_value"),  # each runs elsewhere
    ("prompt", "empty_string"),  # and the model has no BOS token to start from
    ("include", "request_too_large"),  # more numbers than an answer may have
    ("lens_positions", "invalid_value"),  # at every token of a long text
    ("include", "invalid_value"),  # the same of surprisal, and what a model does not have
    ("positions", "invalid_value"),  # none of the text's
    ("tokens", "invalid_value"),  # not one token
    ("lens_tokens", "invalid_value"),
    ("compare", "invalid_value"),
    ("noise", "invalid_value"),  # and so are the four below: without interventions
    ("continue", "invalid_value"),
    ("source", "invalid_value"),
    ("source", "context_length_exceeded"),
    ("mean_of", "invalid_value"),
    ("mean_of", "context_length_exceeded"),
    ("layers", "invalid_value"),  # beside a sweep over positions
}
# Two fields that say different things of one matter: names of one field, forms of an answer.
DISAGREE = re.compile(r"'[\w.]+' (cannot go with|must equal|must agree with) '[\w.]+'")
# Parts that must belong together, variables that the model's template must know, and what a text
# and a model must have.
PARTS = ("receipt.", "chat_template_kwargs.", "interventions", "sweep")
# The same in Anthropic's envelope and Ollama's, which have the message alone.
UNTOLD_MESSAGES = (
    "maximum context length",
    "'max_tokens' must be at most",
    "'messages' must not end with a tool's use",
    "'messages' cannot be rendered",  # a last turn without text cannot be continued
    "'tool_choice' must name one of the tools",
    ".name' must be unique",
    ".type' must be 'custom': this server has no",
    ".input_schema",
    "'output_config.format.schema",
    "'format",
    ".parameters",
    "'top_logprobs' needs",
    "needs the chat template",
    "'options.penalize_newline' must be true beside a penalty",
    "'tools' needs 'messages'",
    "'messages' must not end with a call",
    "must equal 'model' when both are given",
)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """What is drawn as a wrong body and is right by the document shows nothing: a value that breaks
    one branch of a `oneOf` may fit another."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        return True
    wrong = [place for place, how in case.meta.components.items() if not how.mode.is_positive]
    if [place.value for place in wrong] != ["body"]:
        return True
    return not _is_right(case)


# By path, method and media type: one is a compiled document, and there are thousands of cases.
_VALIDATORS: dict[tuple[str, str, str], Any] = {}


def _is_right(case: Any) -> bool:
    operation = case.operation
    place = operation.path, case.method.lower(), case.media_type
    if place not in _VALIDATORS:
        _VALIDATORS[place] = _validator(operation.schema.raw_schema, *place)
    validator = _VALIDATORS[place]
    try:
        return validator is not None and bool(validator.is_valid(case.body))
    except ValueError:  # bytes that are no JSON
        return False


def _validator(document: dict[str, Any], path: str, method: str, media_type: str) -> Any:
    """Of the body; None where the document tells none."""
    content = document["paths"][path][method]["requestBody"]["content"]
    body = content.get(media_type, {}).get("schema")
    return body and validator_for({**body, "components": document["components"]})


OF_NAMES = ("/v1/models/{model_id}", "/v1/unload_lora_adapter")  # that nobody may have


@schemathesis.check
def valid_requests_pass(ctx: Any, response: Any, case: Any) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code in (200, 429):
        return
    if response.status_code == 404 and case.operation.path in OF_NAMES:
        return
    error = response.json()["error"]
    is_untold = response.status_code == 400 and _is_untold(error)
    assert is_untold, f"a valid request got {response.status_code}: {error}"


def _is_untold(error: dict[str, Any] | str) -> bool:
    message = error if isinstance(error, str) else error["message"]
    if DISAGREE.match(message):
        return True
    if isinstance(error, str) or "param" not in error:
        return any(words in message for words in UNTOLD_MESSAGES)
    if (error["param"] or "").startswith(PARTS):
        return True
    found = (re.sub(r"\[\d+\]", "", error["param"] or ""), error["code"])
    return found in UNTOLD or error["code"] == "invalid_schema"  # it does not compile


@schemathesis.check
def answers_are_as_published(ctx: Any, response: Any, case: Any) -> None:
    """See `tests/oracles/openai_schema.py`."""
    path = response.request.path_url
    if route_of(path) is None or "x-request-id" not in response.headers:
        return
    wire = Wire()
    kind = response.headers["content-type"][0]
    reading = Reading(wire, case.method, path, response.status_code, kind)
    reading.feed(response.content)
    if kind == JSON:
        reading.end()  # of a stream, schemathesis reads the beginning
    assert not wire.faults, wire.faults
