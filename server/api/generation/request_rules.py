"""The rules of a request that need several of its fields, or the model.

Each rule refuses with the numbers in it (context, prompt, largest allowed value). No prompt is cut
that the caller did not ask to have cut.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from thirdeye.server.api.requests.fields import Prompt
from thirdeye.server.api.requests.generation_fields import GenerationRequest
from thirdeye.server.api.requests.response_formats import Constraint
from thirdeye.server.api.requests.strict_model import MAX_INT
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.templates.completion_prompt import encode_prompt, fewest_tokens


def check_common(body: GenerationRequest, model: ServedModel) -> None:
    """Cross-field rules of chat and completions alike."""
    if body.prompt_logprobs is not None and body.stream:
        raise refuse("prompt_logprobs", "cannot be streamed: leave out 'stream'.")
    if body.truncate_prompt_tokens == 0:
        raise refuse("truncate_prompt_tokens", "must be at least 1, or -1 for what fits.")
    check_constraint(body)
    if body.allowed_token_ids is not None:
        model.check_token_ids(json.loads(body.allowed_token_ids.source), "allowed_token_ids")
    model.check_token_ids(body.stop_token_ids, "stop_token_ids")
    check_answer_ids(body, model)
    for token_id in body.logit_bias:
        model.check_token_id(token_id, "logit_bias")


def check_answer_ids(body: GenerationRequest, model: ServedModel) -> None:
    """Tokens of an answer that was begun elsewhere: of one answer, which did not end with them."""
    param = "answer_token_ids"
    if not body.answer_token_ids:
        return
    model.check_token_ids(body.answer_token_ids, param)
    for name, is_asked in (
        ("n", body.n > 1),
        ("receipt", body.receipt),
        ("prompt_logprobs", body.prompt_logprobs is not None),
    ):
        if is_asked:
            raise refuse(param, f"cannot go with '{name}': one answer alone goes on.")
    ends = set() if body.ignore_eos else set(model.tokenizer.eos_token_ids)
    for i, token_id in enumerate(body.answer_token_ids):
        if token_id in ends or token_id in body.stop_token_ids:
            raise refuse(f"{param}[{i}]", f"ends an answer, and cannot be in front: {token_id}.")


def check_prompt_ids(prompts: Sequence[Prompt], model: ServedModel, param: str) -> None:
    """Prompts given as token ids must be of the vocabulary."""
    for p, prompt in enumerate(prompts):
        if isinstance(prompt, list):
            model.check_token_ids(prompt, param if len(prompts) == 1 else f"{param}[{p}]")


async def encode_raw(
    prompt: Prompt,
    model: ServedModel,
    param: str,
    *,
    add_special_tokens: bool,
    is_bounded: bool,
    is_whole: bool = False,
) -> list[int]:
    """A raw prompt's token ids, made in a thread; what cannot fit is refused before that.

    `is_whole`: no answer continues it.
    """
    if isinstance(prompt, list):
        return prompt
    fewest = fewest_tokens(prompt, model.tokenizer)
    if is_bounded and fewest > model.max_model_len:
        raise context_exceeded(fewest, model.max_model_len, param, is_estimate=True)
    try:
        return await asyncio.to_thread(
            encode_prompt, prompt, model.tokenizer, add_special_tokens, is_whole=is_whole
        )
    except ValueError:
        if not prompt:
            rule = "must not be empty: this model has no BOS token to start from."
            raise refuse(param, rule, "empty_string") from None
        raise refuse(param, "holds text that cannot be tokenized.") from None


def check_constraint(body: GenerationRequest) -> None:
    """An answer has one shape at most, and may end where that shape does."""
    asked = [field for field in FORMS if getattr(body, field) is not None]
    if len(asked) > 1:
        raise refuse(asked[1], f"cannot go with '{asked[0]}': send one of them.")
    if asked and body.ignore_eos and body.allowed_token_ids is None:
        raise refuse("ignore_eos", f"cannot go with '{asked[0]}': the answer ends where that does.")


FORMS = (  # the fields that say what an answer has to look like
    "response_format",
    "structured_outputs",
    "grammar",
    "json_schema",
    "regex",
    "ebnf",
    "guided_json",
    "guided_json_object",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "bad_words",
    "allowed_token_ids",
)


def constraint_of(body: GenerationRequest) -> tuple[str, Constraint | None]:
    """What the answer has to look like, and the field that says so."""
    for field in FORMS:
        constraint: Constraint | None = getattr(body, field)
        if constraint is not None:
            return field, constraint
    return FORMS[0], None


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
        raise context_exceeded(prompt_len, context, param)


def context_exceeded(
    prompt_len: int, context: int, param: str, *, is_estimate: bool = False
) -> InvalidRequest:
    """`is_estimate`: the prompt was not tokenized, and has at least so many tokens."""
    has = f"has {'at least ' if is_estimate else ''}{prompt_len} tokens"
    return InvalidRequest(
        f"This model's maximum context length is {context} tokens. However, your prompt "
        f"{has}, and the answer needs room too. Shorten '{param}'.",
        param=param,
        code="context_length_exceeded",
        details={"n_prompt_tokens": prompt_len, "n_ctx": context},
    )


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """How many tokens a caller allowed, and the room that there is for them."""

    param: str  # the field that said it
    asked: int | None  # None: whatever there is room for
    prompt_len: int
    context: int

    @property
    def room(self) -> int:
        return self.context - self.prompt_len

    @property
    def is_above_room(self) -> bool:
        return self.asked is not None and self.asked > self.room

    def refusal(self) -> InvalidRequest:
        """For servers that do not lower a limit by themselves."""
        asked = "a larger number" if self.asked == MAX_INT else self.asked  # it was lowered
        return InvalidRequest(
            f"'{self.param}' must be at most {self.room}, got {asked}: the context is "
            f"{self.context} tokens and the prompt takes {self.prompt_len}.",
            param=self.param,
            code="integer_above_max_value",
        )
