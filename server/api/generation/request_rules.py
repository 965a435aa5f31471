"""The rules of a request that need several of its fields, or the model.

Each rule refuses with the numbers in it (context, prompt, largest allowed value); nothing is
capped or cut that the caller did not ask to have cut.
"""

import asyncio
from collections.abc import Sequence

from thirdeye.server.api.requests.fields import Prompt
from thirdeye.server.api.requests.generation_fields import GenerationRequest
from thirdeye.server.api.requests.response_formats import Constraint
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.templates.completion_prompt import encode_prompt, fewest_tokens


def check_common(body: GenerationRequest, model: ServedModel) -> None:
    """Cross-field rules of chat and completions alike."""
    if body.stream_options is not None and not body.stream:
        raise refuse("stream_options", "is only allowed with 'stream': true.")
    if body.return_progress and not body.stream:
        raise refuse("return_progress", "is only allowed with 'stream': true.")
    if body.prompt_logprobs is not None and body.stream:
        raise refuse("prompt_logprobs", "cannot be streamed: leave out 'stream'.")
    if body.truncate_prompt_tokens == 0:
        raise refuse("truncate_prompt_tokens", "must be at least 1, or -1 for what fits.")
    check_constraint(body)
    model.check_token_ids(body.stop_token_ids, "stop_token_ids")
    for token_id in body.logit_bias:
        model.check_token_id(token_id, "logit_bias")


def check_prompt_ids(prompts: Sequence[Prompt], model: ServedModel, param: str) -> None:
    """Prompts given as token ids must be of the vocabulary."""
    for p, prompt in enumerate(prompts):
        if isinstance(prompt, list):
            model.check_token_ids(prompt, param if len(prompts) == 1 else f"{param}[{p}]")


async def encode_raw(
    prompt: Prompt, model: ServedModel, param: str, *, add_special_tokens: bool, is_bounded: bool
) -> list[int]:
    """A raw prompt's token ids, made in a thread; what cannot fit is refused before that."""
    if isinstance(prompt, list):
        return prompt
    fewest = fewest_tokens(prompt, model.tokenizer)
    if is_bounded and fewest > model.max_model_len:
        raise context_exceeded(f"has at least {fewest} tokens", model.max_model_len, param)
    try:
        return await asyncio.to_thread(encode_prompt, prompt, model.tokenizer, add_special_tokens)
    except ValueError:
        if not prompt:
            rule = "must not be empty: this model has no BOS token to start from."
            raise refuse(param, rule, "empty_string") from None
        raise refuse(param, "holds text that cannot be tokenized.") from None


def check_constraint(body: GenerationRequest) -> None:
    """An answer has one shape at most, and may end where that shape does."""
    field, constraint = constraint_of(body)
    if constraint is None:
        return
    if body.response_format is not None and body.structured_outputs is not None:
        raise refuse("structured_outputs", "cannot go with 'response_format': send one of them.")
    if body.ignore_eos:
        raise refuse("ignore_eos", f"cannot go with '{field}': the answer ends where that does.")


def constraint_of(body: GenerationRequest) -> tuple[str, Constraint | None]:
    """What the answer has to look like, and the field that says so."""
    if body.structured_outputs is not None:
        return "structured_outputs", body.structured_outputs
    return "response_format", body.response_format


def refuse(param: str, rule: str, code: str = "invalid_value") -> InvalidRequest:
    return InvalidRequest(f"'{param}' {rule}", param=param, code=code)


def truncate(
    prompt: list[int], keep: int | None, max_tokens: int | None, context: int
) -> list[int]:
    """The prompt's last `keep` tokens; -1 keeps what fits beside `max_tokens`; None keeps all."""
    if keep is None:
        return prompt
    if keep == -1:
        keep = max(context - (1 if max_tokens is None else max_tokens), 1)
    return prompt[-keep:]


def check_context(prompt_len: int, context: int, param: str, reserve: int = 1) -> None:
    """The prompt must leave room for `reserve` tokens. The wording is what routers match."""
    if prompt_len + reserve > context:
        raise context_exceeded(f"has {prompt_len} tokens", context, param)


def context_exceeded(prompt_has: str, context: int, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"This model's maximum context length is {context} tokens. However, your prompt "
        f"{prompt_has}, and the answer needs room too. Shorten '{param}'.",
        param=param,
        code="context_length_exceeded",
    )


def room_for(max_tokens: int | None, prompt_len: int, context: int, param: str) -> int:
    """`max_tokens`, or all the room beside the prompt. Raises if it asks for more than there is."""
    room = context - prompt_len
    if max_tokens is not None and max_tokens > room:
        raise InvalidRequest(
            f"'{param}' must be at most {room}, got {max_tokens}: the context is {context} tokens "
            f"and the prompt takes {prompt_len}.",
            param=param,
            code="integer_above_max_value",
        )
    return room if max_tokens is None else max_tokens
