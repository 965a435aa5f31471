"""Rules between fields, in JSON Schema's words: what a generator of requests must know.

The code that refuses is `check_*` beside each route; here the same rules are told to the outside.
What JSON Schema cannot say is in `UNTOLD` and answered with a 400 that names the field: whether a
prompt fits depends on its tokens, and no schema can compare two numbers.
"""

from typing import Any

from thirdeye.server.api.field_rules.nothing import EMPTY, NOTHING

Schema = dict[str, Any]

UNTOLD = (
    "A prompt and its answer must fit into the context, counted in tokens.",
    "'min_tokens' is at most 'max_tokens'; 'best_of' equals 'n'.",
    "'max_tokens' equals 'max_completion_tokens' where both are given.",
    "'continue_final_message' wants an assistant message at the end; neither it nor a 'prefix' "
    "there goes with 'add_generation_prompt'.",
    "One field says what an answer has to look like ('response_format', 'structured_outputs', "
    "'grammar', …); none goes with 'ignore_eos'.",
    "Names of tools are unique, and with their namespace not too long; a choice that wants a call "
    "goes with 'tools', tools of '/tokenize' "
    "with 'messages'; a choice names one of the tools; 'ignore_eos' goes with none.",
    "'functions' go without 'tools', and a choice of one not without them; a message of role "
    "'function' follows a 'function_call', which goes without 'tool_calls'.",
    "'penalize_newline' is true where a penalty is.",
    "'answer_token_ids' are of one answer, fewer than 'max_tokens', and none ends an answer.",
    "A field and another name of it have one value; prompts times 'n' are bounded.",
    "The messages of Anthropic's dialect and of Ollama's do not end with a call of a tool.",
    "Ollama's 'tools' go with 'messages', 'top_logprobs' with 'logprobs', 'system' and 'think' not "
    "with 'raw'.",
    "A schema, a regular expression or a grammar must compile.",
    "The parts of a receipt belong together.",
    "'lora_name' is printable, and free or an adapter's; 'lora_path' lies where the operator said.",
    "'chat_template_kwargs' holds variables that the model's chat template reads.",
    "What '/v1/inspect' is asked for is bounded in tokens and in bytes of numbers, and 'positions' "
    "are in the text; a token named by its text is one token.",
    "An intervention says one thing that is done, of a head, neuron and tokens that are there; "
    "'source', 'mean_of', 'noise' and 'continue' belong to interventions.",
)


def when(field: str, value: Schema, then: Schema) -> Schema:
    """If `field` is given and is a `value`, the whole request must be a `then`."""
    return {"if": _has(field, value), "then": then}


def never(**fields: Schema) -> Schema:
    """No request has all of these at once."""
    return {"not": {"properties": fields, "required": list(fields)}}


def _has(field: str, value: Schema) -> Schema:
    return {"properties": {field: value}, "required": [field]}


LOGPROBS = "message.output_text.logprobs"
_TRUE: Schema = {"const": True}
_GIVEN: Schema = {"not": NOTHING}
_TEXT_GIVEN: Schema = {"not": {"enum": [None, [], {}]}}  # an empty text is one
_STREAMS = never(prompt_logprobs=_GIVEN, stream=_TRUE)
_TOOLS: Schema = _has("tools", {"type": "array", "minItems": 1})
_MUST_CALL: Schema = {  # Anthropic's choices that want a tool
    "type": "object",
    "properties": {"type": {"enum": ["any", "tool"]}},
    "required": ["type"],
}
_HAS_TRUNCATION: Schema = {"enum": [True, "END", "START"]}
_CALLS = when("tool_choice", _MUST_CALL, _TOOLS)
_CONTINUES = never(continue_final_message=_TRUE, add_generation_prompt=_TRUE)
_GOES_ON = when("messages", _GIVEN, _CONTINUES)


def _text(given: Schema) -> list[Schema]:
    """A prompt, if it is `given`, or messages."""
    return [{"oneOf": [_has("prompt", given), _has("messages", _GIVEN)]}, _GOES_ON]


# Request schema -> what all of it must obey.
RULES: dict[str, list[Schema]] = {
    "ChatRequest": [
        _STREAMS,  # one rule more is more than generators of requests can multiply out
        when("top_logprobs", {"type": "integer", "minimum": 1}, _has("logprobs", _TRUE)),
        when("include_reasoning_logprobs", _TRUE, _has("logprobs", _TRUE)),
    ],
    "CompletionRequest": [
        _STREAMS,
        when("max_tokens", {"const": 0}, _has("echo", _TRUE)),
        when("max_completion_tokens", {"const": 0}, _has("echo", _TRUE)),
    ],
    "ResponsesRequest": [
        when("tool_choice", {"not": {"enum": ["none", "auto", *EMPTY]}}, _TOOLS),
        when(
            "top_logprobs",
            {"type": "integer", "minimum": 1},
            _has("include", {"type": "array", "contains": {"const": LOGPROBS}}),
        ),
    ],
    "MessagesRequest": [_CALLS],
    "CountTokensRequest": [_CALLS],
    "InspectRequest": _text(_GIVEN),
    "TokenizeRequest": _text(_TEXT_GIVEN),
    "EmbeddingRequest": [
        never(truncate=_HAS_TRUNCATION, truncate_prompt_tokens=_GIVEN),
    ],
}
