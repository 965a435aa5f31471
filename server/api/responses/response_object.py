"""A response's own keys, the request's among them, and its usage."""

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.responses.offered_tools import shown_tools
from thirdeye.server.api.responses.schema import JsonSchemaFormat, ResponsesRequest, TextFormat
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally


def empty_response(
    body: ResponsesRequest, generation: Generation, model: ServedModel
) -> JsonObject:
    """Every key of a response that has just begun, the request's own among them."""
    sampling = generation.requests[0].sampling  # what the model suggests shows here, too
    return {
        "id": generation.id,
        "object": "response",
        "created_at": generation.created,
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": generation.model,
        "system_fingerprint": generation.fingerprint(model.fingerprint),
        "previous_response_id": None,
        "instructions": body.instructions,
        "output": [],
        "error": None,
        "tools": shown_tools(body.tools),
        "tool_choice": body.tool_choice,
        "truncation": "disabled",
        "parallel_tool_calls": body.parallel_tool_calls,
        "text": {"format": _format(body.text.format), "verbosity": "medium"},
        "top_p": sampling.top_p,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "top_logprobs": body.top_logprobs,
        "temperature": sampling.temperature,
        "reasoning": _reasoning(body),
        "usage": None,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": body.metadata,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
    }


def _reasoning(body: ResponsesRequest) -> JsonObject:
    effort = body.reasoning.effort if body.reasoning else None
    summary = body.reasoning.summary if body.reasoning else None
    return {"effort": effort, "summary": None if summary == "none" else summary}


def _format(wanted: TextFormat) -> JsonObject:
    if not isinstance(wanted, JsonSchemaFormat):
        return {"type": wanted.type}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "description": wanted.description or "",  # one schema wants the key, the other a string
        "schema": wanted.schema_,
        "strict": bool(wanted.strict),
    }


def usage_of(tally: Tally) -> JsonObject:
    prompt, generated = tally.num_prompt_tokens, tally.num_generated_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": tally.num_cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": tally.num_thought_tokens},
        "total_tokens": prompt + generated,
    }
