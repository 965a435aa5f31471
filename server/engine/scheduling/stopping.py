"""When a token ends a request. One rule for the scheduler and for the fake engine."""

from collections.abc import Collection

from thirdeye.server.engine.interface.types import FinishReason, SamplingParams


def finish_after(
    token_id: int,
    num_generated: int,
    sampling: SamplingParams,
    eos_token_ids: Collection[int],
    max_tokens: int,
) -> tuple[FinishReason | None, int | None]:
    """(why it ends, the stop id that did it) once `token_id` is the `num_generated`-th new token.

    End-of-sequence comes before stop ids, and both before the length: a token that ends the answer
    by itself says so, even when it is the last one allowed. `max_tokens` is the request's, or less
    where the context is full earlier.
    """
    if num_generated >= sampling.min_tokens:
        if token_id in eos_token_ids and not sampling.ignore_eos:
            return FinishReason.STOP, None
        if token_id in sampling.stop_token_ids:
            return FinishReason.STOP, token_id
    if num_generated >= max_tokens:
        return FinishReason.LENGTH, None
    return None, None
