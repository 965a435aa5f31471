"""What a request's words about penalties come to: how much, and of which tokens."""

from typing import Any

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.requests.generation_fields import GenerationRequest

_NONE: dict[str, Any] = {
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "penalty_window": -1,
}


def penalties_of(
    body: GenerationRequest, repetition_penalty: float, context: int
) -> dict[str, Any]:
    """As fields of `SamplingParams`. Raises `InvalidRequest` for what no penalty can spare.

    A window without a penalty, and one of the whole context, ask for nothing; one of no token
    leaves nothing to penalize.
    """
    asked = {
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
        "repetition_penalty": repetition_penalty,
    }
    if body.repeat_last_n == 0 or all(_NONE[name] == value for name, value in asked.items()):
        return _NONE
    if not body.penalize_newline:
        rule = "must be true beside a penalty: penalties see every token. 'logit_bias' favours one."
        raise refuse("penalize_newline", rule, "unsupported_value")
    window = body.repeat_last_n if body.repeat_last_n < context else -1
    return asked | {"penalty_window": window}
