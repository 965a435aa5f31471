"""Fields this server knows and does not act on.

What changes the answer is never ignored: such a field passes only with a value that asks for
nothing (`null` always does), every other value is refused with what to use instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thirdeye.server.api.field_rules.same_value import is_one_of
from thirdeye.server.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field is refused, and the values of it that ask for nothing."""

    hint: str
    neutral: tuple[object, ...] = ()
    code: str = "unsupported_parameter"


_VALUE = "unsupported_value"
_FIXED_TEMPLATE = Refusal("the chat template is fixed when the server starts")
_NO_ADAPTERS = "one model is served, without adapters"
_USE_TOOLS = "use 'tools' and 'tool_choice'"
_BESIDE = "send its fields beside the others"
_SAMPLERS = "use 'temperature', 'top_k', 'top_p' and 'min_p'"

REFUSED: dict[str, Refusal] = {
    "adapter_id": Refusal(_NO_ADAPTERS, ("",)),
    "api_key": Refusal("send it in the header 'Authorization: Bearer KEY'", ("",)),
    "context_overflow_policy": Refusal(
        "use 'truncate_prompt_tokens' to have a prompt cut", ("stopAtLimit",), _VALUE
    ),
    "dry_multiplier": Refusal("use 'repetition_penalty'", (0,)),
    "early_stopping": Refusal("there is no beam search", (False,)),
    "extra_body": Refusal(_BESIDE, ({},)),
    "format": Refusal("use 'response_format'", ("",)),
    "guided_whitespace_pattern": Refusal("blanks between the parts of JSON are few"),
    "kv_transfer_params": Refusal("nothing is sent to other engines", ({},)),
    "length_penalty": Refusal("there is no beam search", (1,)),
    "logits_processors": Refusal("no code of callers runs here", ([],)),
    "logprob_token_ids": Refusal("use 'logprobs'", ([],)),
    "lora_path": Refusal(_NO_ADAPTERS, ("",)),
    "mirostat": Refusal(_SAMPLERS, (0,)),
    "no_repeat_ngram_size": Refusal("use 'repetition_penalty'", (0,)),
    "options": Refusal(_BESIDE, ({},)),
    "preset": Refusal("send its values as fields of their own"),
    "prompt_embeds": Refusal("send text or token ids"),
    "prompt_mode": Refusal("write it into the system message"),
    "repeat_last_n": Refusal("penalties see the whole answer", (-1,)),
    "return_hidden_states": Refusal("/v1/inspect looks inside the model", (False,)),
    "return_token_offsets": Refusal("use 'return_token_ids'", (False,)),
    "safe_prompt": Refusal("write it into the system message", (False,)),
    "samplers": Refusal(_SAMPLERS, ([],)),
    "spaces_between_special_tokens": Refusal("only true is", (True,), _VALUE),
    "stream_interval": Refusal("every token is sent at once", (1,), _VALUE),
    "tfs_z": Refusal(_SAMPLERS, (1,)),
    "top_a": Refusal(_SAMPLERS, (0,)),
    "transforms": Refusal("use 'truncate_prompt_tokens' to have a prompt cut", ([],)),
    "typical_p": Refusal(_SAMPLERS, (1,)),
    "use_beam_search": Refusal("there is no beam search", (False,)),
    "vllm_xargs": Refusal("no code of callers runs here", ({},)),
    "xtc_probability": Refusal(_SAMPLERS, (0,)),
}

REFUSED_IN_COMPLETIONS: dict[str, Refusal] = REFUSED | {
    "suffix": Refusal("there is no fill-in-the-middle", ("",)),
    "top_logprobs": Refusal("use 'logprobs', which is a number here", (0,)),
}

REFUSED_IN_EMBEDDINGS: dict[str, Refusal] = {
    "messages": Refusal("send their text in 'input', as /apply-template renders it"),
    "normalize": Refusal("vectors have the length 1", (True,)),
}

REFUSED_IN_CHAT: dict[str, Refusal] = REFUSED | {
    "audio": Refusal("answers are text only"),
    "best_of": Refusal("use 'n'", (1,)),
    "chat_template": _FIXED_TEMPLATE,
    "documents": Refusal("send it in 'chat_template_kwargs', if the template reads it"),
    "echo": Refusal("use /v1/completions", (False,)),
    "function_call": Refusal(_USE_TOOLS, ("none", "auto")),
    "functions": Refusal(_USE_TOOLS, ([],)),
    "modalities": Refusal("only ['text'] is", (["text"],), _VALUE),
    "moderation": Refusal("this server moderates nothing"),
    "stream_reasoning": Refusal(
        "thoughts are streamed as they come, 'include_reasoning' leaves them out", (True,), _VALUE
    ),
    "suffix": Refusal("there is no fill-in-the-middle", ("",)),
    "web_search_options": Refusal("this server fetches nothing"),
}


def drop_refused(body: Mapping[str, object], refused: Mapping[str, Refusal]) -> dict[str, object]:
    """The body without the table's fields. Raises `InvalidRequest` for one that asks for more."""
    for name, value in body.items():
        refusal = refused.get(name)
        if refusal is None or value is None:
            continue
        if not is_one_of(value, refusal.neutral):
            raise InvalidRequest(
                f"'{name}' is not supported here: {refusal.hint}.", param=name, code=refusal.code
            )
    return {name: value for name, value in body.items() if name not in refused}
