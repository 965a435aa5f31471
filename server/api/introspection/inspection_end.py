"""The end of a look inside: what is known when all layers are."""

import math
from collections.abc import Sequence
from typing import Any

from msgspec import UnsetType

from thirdeye.server.api.introspection.inspection import (
    AttributedLogit,
    Continuation,
    Followed,
    FollowedToken,
    Guessed,
    GuessedToken,
    HeadScores,
    InspectedToken,
    InspectionEnd,
    Surprisal,
)
from thirdeye.server.api.introspection.inspection_numbers import DIGITS, floats, numbers, written
from thirdeye.server.api.introspection.interventions.effect_answers import noise_of, outcome_of
from thirdeye.server.engine.interface.trace import HEAD_KINDS, Array, Guesses, Trace
from thirdeye.server.text.token_logprobs import token_text
from thirdeye.server.text.tokenizer import TokenizerLike

ATTRIBUTED = "attribution."


def ending(
    trace: Trace,
    guesses: Guessed,
    followed: Followed | UnsetType,
    tokenizer: TokenizerLike,
    is_packed: bool,
) -> InspectionEnd:
    end = InspectionEnd(next_token=guesses, lens_tokens=followed)
    if "norm_stats" in trace.arrays:
        end.norm_stats = written(trace.arrays["norm_stats"], is_packed)
    if "surprisal" in trace.arrays:
        rows = numbers(trace.arrays["surprisal"])
        nats, ranks, entropy = ([row[i] for row in rows] for i in range(3))
        end.surprisal = Surprisal(nats, [int(rank) for rank in ranks], entropy)
    compared = [describe(token_id, tokenizer) for token_id in trace.compare]
    if f"{ATTRIBUTED}logit" in trace.arrays:
        end.attribution = attributed(trace.arrays, compared)
    if "base_effect" in trace.arrays:
        end.compare = compared
        end.base_next_token = [shown(guesses, tokenizer) for guesses in trace.base_lens]
    end.base = outcome_of(trace.arrays, "base_effect")
    end.changed = outcome_of(trace.arrays, "effect")
    end.source = outcome_of(trace.arrays, "source_effect")
    end.noise = noise_of(trace.arrays)
    if trace.continued:
        both = [[describe(token, tokenizer) for token in tokens] for tokens in trace.continued]
        end.continued = Continuation(*both)
    if "head_scores" in trace.arrays:
        kinds = numbers(trace.arrays["head_scores"])
        end.head_scores = HeadScores(trace.token_ids, dict(zip(HEAD_KINDS, kinds, strict=True)))
    return end


def attributed(arrays: dict[str, Array], tokens: list[InspectedToken]) -> AttributedLogit:
    parts: dict[str, Any] = {}
    for name, values in arrays.items():
        if name.startswith(ATTRIBUTED):
            whole = numbers(values) if values.shape else round_or_none(floats(values)[0])
            parts[name.removeprefix(ATTRIBUTED)] = whole
    return AttributedLogit(tokens=tokens, **parts)


def round_or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)


def followed_tokens(values: Array, tokens: Sequence[int]) -> Followed:
    """[lens_positions, tokens, 2] -> each token's logprob and rank."""
    return [
        [
            FollowedToken(token, logprob, int(rank))
            for token, (logprob, rank) in zip(tokens, row, strict=True)
        ]
        for row in numbers(values)
    ]


def describe(token_id: int, tokenizer: TokenizerLike) -> InspectedToken:
    raw = tokenizer.token_bytes(token_id)
    return InspectedToken(token_id, token_text(raw), list(raw))


def shown(guesses: Guesses, tokenizer: TokenizerLike) -> list[GuessedToken]:
    return [
        GuessedToken(
            token_id,
            token_text(tokenizer.token_bytes(token_id)),
            round(logprob, DIGITS) + 0.0,  # and never -0.0
        )
        for token_id, logprob in guesses
    ]
