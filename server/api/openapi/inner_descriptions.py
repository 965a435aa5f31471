"""What the fields of objects inside requests do, and what each route is for: for the OpenAPI
document and the page at `/docs`.
"""

from thirdeye.server.api.field_rules.hints import hints_of
from thirdeye.server.api.ollama.sampling_options import NotHere, OllamaOptions
from thirdeye.server.api.openapi.descriptions import A_HINT, SHARED

_EFFORT = "How hard to think; 'none' is not at all."
_BUDGET = "Tokens of thinking at most."
_LATER: dict[str, str] = {"include_obfuscation": A_HINT}
INNER: dict[str, dict[str, str]] = {
    "StreamOptions": _LATER
    | {
        "include_usage": "A last chunk has the usage.",
        "continuous_usage_stats": "Each chunk has the usage so far.",
    },
    "ResponseStreamOptions": _LATER,
    "ReasoningOptions": {
        "effort": _EFFORT,
        "max_tokens": f"{_BUDGET} -1: any number.",
        "exclude": "Thoughts are left out of the answer.",
        "enabled": "Whether to think.",
        "summary": "The summary of a thought is the thought.",
    },
    "ThinkSwitch": {"type": "Whether to think.", "budget_tokens": f"{_BUDGET} -1: any number."},
    "AnthropicThinking": {
        "type": "Whether to think.",
        "budget_tokens": _BUDGET,
        "display": "'omitted' leaves thoughts out of the answer.",
    },
    "OutputConfig": {
        "format": "A JSON schema that the answer satisfies.",
        "effort": "How hard to think.",
        "task_budget": A_HINT,
    },
    "TextConfig": {"format": "'text', 'json_object' or 'json_schema'.", "verbosity": A_HINT},
    "ReasoningConfig": {
        "effort": _EFFORT,
        "summary": "The summary of a thought is the thought.",
        "generate_summary": "The older name of 'summary'.",
        "context": A_HINT,
        "mode": A_HINT,
    },
    "Metadata": {"user_id": "For the log alone."},
}


def inner_descriptions() -> dict[str, dict[str, str]]:
    """The words for each field of those objects that are described."""
    return INNER | {"OllamaOptions": dict(_of_options())}


def _of_options() -> list[tuple[str, str]]:
    words = SHARED | {
        "num_predict": "The longest answer; -1, -2 and none are the room beside the prompt.",
        "repeat_penalty": "Ollama's name of 'repetition_penalty'.",
        "seed": f"{SHARED['seed']} -1: another answer each time.",
    }
    hints = hints_of(OllamaOptions.model_fields)
    return [
        (name, A_HINT if name in hints else words[name])
        for name, field in OllamaOptions.model_fields.items()
        if not any(isinstance(mark, NotHere) for mark in field.metadata)
    ]


ROUTES: dict[str, str] = {
    "/v1/chat/completions": "The next turn of a conversation.",
    "/v1/completions": "Goes on with a text, without a chat template.",
    "/v1/embeddings": "A vector of length 1 for each text.",
    "/v1/responses": "OpenAI's newer API; nothing is stored.",
    "/v1/responses/input_tokens": "How many tokens the prompt has, fitting or not.",
    "/v1/messages": "Anthropic's API.",
    "/v1/messages/count_tokens": "How many tokens the prompt has, fitting or not.",
    "/api/chat": "Ollama's: the next turn of a conversation, in lines of JSON.",
    "/api/generate": "Ollama's: an answer to a text, in lines of JSON.",
    "/api/embed": "Ollama's: a vector of length 1 for each text.",
    "/api/embeddings": "Ollama's older route, for one text.",
    "/api/tags": "Ollama's: the model under each of its names.",
    "/api/ps": "Ollama's: the model, which is loaded.",
    "/api/version": "The edition of Ollama's API that is spoken.",
    "/api/show": "Ollama's: what the model is.",
    "/v1/models": "The model under each of its names, with its context and what it suggests.",
    "/v1/models/{model_id}": "One of these.",
    "/tokenize": "The token ids of a text or a conversation.",
    "/detokenize": "The text of token ids.",
    "/tokenizer_info": "The tokenizer's special tokens, and the chat template.",
    "/v1/inspect": "What happens inside the model: attention, norms, the logit lens.",
    "/v1/inspect/vocabulary": "Which tokens' embeddings lie close to each other.",
    "/v1/chat/completions/render": "The prompt of a chat request, as text and ids.",
    "/apply-template": "The prompt of a chat request, as text and ids.",
    "/v1/chat/completions/input_tokens": "How many tokens the prompt has, fitting or not.",
    "/props": "Context, places and chat template, as llama.cpp names them.",
    "/v1/timeline": "The engine's steps, as they are made.",
    "/v1/verify": "Whether an answer came from this model, by its receipt.",
    "/health": "Whether the server is to be left alone; open without a key.",
    "/ping": "The same as /health.",
    "/ready": "Whether it wants requests now; open without a key.",
    "/version": "Which version this is.",
    "/load": "How many requests run and wait, and how full the cache is.",
    "/v1/loads": "The same in SGLang's words, for gateways.",
    "/reset_prefix_cache": "Forgets prefixes that no running request holds.",
    "/v1/load_lora_adapter": "Loads an adapter, which requests may then name as their model.",
    "/v1/unload_lora_adapter": "Unloads it, when the requests that have it have ended.",
    "/metrics": "For Prometheus.",
}
ROUTES_OF_SEVERAL: dict[str, str] = {
    "/models/load": "Loads a model, and answers when it is there.",
    "/models/unload": "Its memory is free when its last answer has ended.",
    "/sleep": "As /models/unload.",
    "/wake_up": "As /models/load.",
}
