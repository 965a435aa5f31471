"""Fields this server knows and does not act on.

What changes the answer is never ignored: such a field passes only with a value that asks for
nothing (those with nothing in them do), every other value is refused with what to use instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thirdeye.server.api.field_rules.nothing import EMPTY, is_empty
from thirdeye.server.api.field_rules.same_value import is_one_of
from thirdeye.server.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field is refused, and the values of it that ask for nothing."""

    hint: str
    neutral: tuple[object, ...] = ()
    code: str = "unsupported_parameter"
    beside: str = ""  # it counts beside this alone, which is never there: any value passes
    asked: tuple[object, ...] = ()  # with nothing in them, and yet they ask for something

    def schema(self) -> dict[str, Any]:
        """Of a field that may be there and may ask for nothing."""
        if self.beside:
            return {"description": f"Passes: {self.hint}."}
        empty = {"enum": [value for value in EMPTY if value not in self.asked]}
        options = [{"enum": [*self.neutral]}, empty] if self.neutral else [empty]
        return {"anyOf": options, "description": f"Not supported: {self.hint}."}

    def asks(self, value: object) -> bool:
        if self.beside or value is None:
            return False
        if is_empty(value):
            return is_one_of(value, self.asked)
        return not is_one_of(value, self.neutral)


_VALUE = "unsupported_value"
_NO_ADAPTERS = "one model is served, without adapters"
_BESIDE = "send its fields beside the others"
_NO_SEARCH = "this server fetches nothing"
_STREAMED_THOUGHTS = (
    "thoughts are streamed as they come, 'include_reasoning' of chat leaves them out"
)
_SAMPLERS = "use 'temperature', 'top_k', 'top_p' and 'min_p'"


def _only_beside(field: str) -> Refusal:
    return Refusal(f"counts beside `{field}` alone", beside=field)


REFUSED: dict[str, Refusal] = {
    "adapter_id": Refusal(_NO_ADAPTERS),
    "adaptive_decay": _only_beside("adaptive_target"),
    "adaptive_target": Refusal(_SAMPLERS, (-1,)),
    "api_key": Refusal("send it in the header 'Authorization: Bearer KEY'"),
    "context_overflow_policy": Refusal(
        "use 'truncate_prompt_tokens' to have a prompt cut", ("stopAtLimit",), _VALUE
    ),
    "custom_logit_processor": Refusal("no code of callers runs here"),
    "custom_params": Refusal("no code of callers runs here"),
    "do_sample": Refusal("use 'temperature': 0", (True,)),
    "dry_allowed_length": _only_beside("dry_multiplier"),
    "dry_base": _only_beside("dry_multiplier"),
    "dry_multiplier": Refusal("use 'repetition_penalty'", (0,)),
    "dry_penalty_last_n": _only_beside("dry_multiplier"),
    "dry_sequence_breakers": _only_beside("dry_multiplier"),
    "dynatemp_exponent": _only_beside("dynatemp_range"),
    "dynatemp_range": Refusal(_SAMPLERS, (0,)),
    "early_stopping": Refusal("there is no beam search", (False,)),
    "extra_body": Refusal(_BESIDE),
    "format": Refusal("use 'response_format'"),
    "guided_whitespace_pattern": Refusal("blanks between the parts of JSON are few"),
    "kv_transfer_params": Refusal("nothing is sent to other engines"),
    "length_penalty": Refusal("there is no beam search", (1,)),
    "logits_processors": Refusal("no code of callers runs here"),
    "logprob_token_ids": Refusal("use 'logprobs'"),
    "lora": Refusal(_NO_ADAPTERS),
    "lora_path": Refusal(_NO_ADAPTERS),
    "min_keep": Refusal(_SAMPLERS, (0, 1)),
    "mirostat": Refusal(_SAMPLERS, (0,)),
    "mirostat_eta": _only_beside("mirostat"),
    "mirostat_tau": _only_beside("mirostat"),
    "n_indent": Refusal("use 'grammar' or 'regex'", (0,)),
    "n_keep": Refusal("no context is shifted", beside="a shifted context"),
    "n_probs": Refusal("use 'logprobs'", (0,)),
    "no_repeat_ngram_size": Refusal("use 'repetition_penalty'", (0,)),
    "options": Refusal(_BESIDE),
    "post_sampling_probs": _only_beside("n_probs"),
    "preset": Refusal("send its values as fields of their own"),
    "prompt_embeds": Refusal("send text or token ids"),
    "prompt_mode": Refusal("write it into the system message"),
    "response_fields": Refusal("answers are whole"),
    "return_hidden_states": Refusal("/v1/inspect looks inside the model", (False,)),
    "return_token_offsets": Refusal("use 'return_token_ids'", (False,)),
    "return_tokens": Refusal("use 'return_token_ids'", (False,)),
    "safe_prompt": Refusal("write it into the system message", (False,)),
    "samplers": Refusal(_SAMPLERS),
    "spaces_between_special_tokens": Refusal("only true is", (True,), _VALUE),
    "stream_interval": Refusal("every token is sent at once", (1,), _VALUE),
    "tfs_z": Refusal(_SAMPLERS, (1,)),
    "stop_regex": Refusal("use 'stop'"),
    "top_a": Refusal(_SAMPLERS, (0,)),
    "top_n_sigma": Refusal(_SAMPLERS, (-1, 0)),
    "transforms": Refusal("use 'truncate_prompt_tokens' to have a prompt cut"),
    "typ_p": Refusal(_SAMPLERS, (1,)),
    "typical_p": Refusal(_SAMPLERS, (1,)),
    "truncation_side": Refusal("a prompt loses its beginning", ("left",), _VALUE),
    "use_beam_search": Refusal("there is no beam search", (False,)),
    "vllm_xargs": Refusal("no code of callers runs here"),
    "xtc_probability": Refusal(_SAMPLERS, (0,)),
    "xtc_threshold": _only_beside("xtc_probability"),
}

# What routers add to requests of any dialect; chat obeys most of it.
_OF_THOUGHTS: dict[str, Refusal] = {
    "include_reasoning": Refusal("only true is, /v1/chat/completions obeys it", (True,), _VALUE),
    "separate_reasoning": Refusal("only true is, /v1/chat/completions obeys it", (True,), _VALUE),
    "stream_reasoning": Refusal(_STREAMED_THOUGHTS, (True,), _VALUE),
}
OF_ROUTERS: dict[str, Refusal] = _OF_THOUGHTS | {
    "no_stop_trim": Refusal("texts of 'stop' are not shown", (False,)),
    "return_hidden_states": REFUSED["return_hidden_states"],
}

REFUSED_IN_COMPLETIONS: dict[str, Refusal] = (
    REFUSED
    | _OF_THOUGHTS
    | {
        "suffix": Refusal("there is no fill-in-the-middle"),
        "top_logprobs": Refusal("use 'logprobs', which is a number here", (0,)),
    }
)

REFUSED_IN_EMBEDDINGS: dict[str, Refusal] = {
    "messages": Refusal("send their text in 'input', as /apply-template renders it"),
    "normalize": Refusal("vectors have the length 1", (True,)),
}

REFUSED_IN_CHAT: dict[str, Refusal] = REFUSED | {
    "audio": Refusal("answers are text only"),
    "best_of": Refusal("use 'n'", (1,)),
    "chat_template": Refusal("the chat template is fixed when the server starts"),
    "disable_search": Refusal(_NO_SEARCH, (True,)),
    "documents": Refusal("send it in 'chat_template_kwargs', if the template reads it"),
    "echo": Refusal("use /v1/completions", (False,)),
    "enable_search": Refusal(_NO_SEARCH, (False,)),
    "guardrails": Refusal("this server moderates nothing"),
    "modalities": Refusal("only ['text'] is", (["text"],), _VALUE),
    "moderation": Refusal("this server moderates nothing"),
    "parse_tool_calls": Refusal("use 'tool_choice': 'none'", (True,)),
    "plugins": Refusal("none run here"),
    "reasoning_in_content": Refusal("thoughts stand apart from the content", (False,)),
    "search_options": Refusal(_NO_SEARCH),
    "search_parameters": Refusal(_NO_SEARCH, ({"mode": "off"},)),
    "stream_reasoning": Refusal(_STREAMED_THOUGHTS, (True,), _VALUE),
    "suffix": Refusal("there is no fill-in-the-middle"),
    "web_search_options": Refusal(_NO_SEARCH, asked=({},)),
}


def drop_refused(body: Mapping[str, object], refused: Mapping[str, Refusal]) -> dict[str, object]:
    """The body without the table's fields. Raises `InvalidRequest` for one that asks for more."""
    for name, value in body.items():
        refusal = refused.get(name)
        if refusal is not None and refusal.asks(value):
            raise InvalidRequest(
                f"'{name}' is not supported here: {refusal.hint}.", param=name, code=refusal.code
            )
    return {name: value for name, value in body.items() if name not in refused}
