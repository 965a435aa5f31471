"""The end of a look inside: what is known when all layers are."""

import math
from collections.abc import Sequence
from typing import Any

from msgspec import UnsetType

from thirdeye.server.api.introspection.inspection import (
    AttributedLogit,
    Followed,
    FollowedToken,
    Guessed,
    HeadScores,
    InspectedToken,
    InspectionEnd,
    Surprisal,
)
from thirdeye.server.api.introspection.inspection_numbers import DIGITS, floats, numbers, written
from thirdeye.server.engine.interface.trace import HEAD_KINDS, Array, Trace
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
    if trace.compare:
        tokens = [describe(token_id, tokenizer) for token_id in trace.compare]
        end.attribution = attributed(trace.arrays, tokens)
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
