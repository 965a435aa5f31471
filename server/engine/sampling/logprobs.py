"""How likely a token was: log-softmax of the model's raw logits, before anything a request asks
for.

`score_tokens` is the device's part and has one shape for all rows: each gets the likeliest
`NUM_TOP`, so that which of equally likely ones are told does not depend on what the others ask for.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from thirdeye.server.engine.interface.types import TokenLogprobs

NUM_TOP = 20  # OpenAI's limit for `top_logprobs`

Scores = tuple[list[int], list[float]]


def score_tokens(
    logits: Tensor, token_ids: Tensor, num_top: int = NUM_TOP
) -> tuple[Tensor, Tensor]:
    """logits [L, vocab_size] float32, token_ids [L] -> int64 [L, 2 + K]: token, its rank, the ids
    of the likeliest K; and float32 [L, 1 + K]: their logprobs. K is `num_top` or `vocab_size`."""
    logprobs = logits.log_softmax(-1)  # [L, vocab_size]
    chosen = logprobs.gather(1, token_ids[:, None])  # [L, 1]
    ranks = (logprobs > chosen).sum(-1, keepdim=True) + 1  # [L, 1]
    top = logprobs.topk(min(num_top, logits.shape[-1]))  # [L, K]
    ids = torch.cat([token_ids[:, None], ranks, top.indices], dim=1)
    return ids, torch.cat([chosen, top.values], dim=1)


def read_scores(scores: Iterable[Scores], num_top: Iterable[int]) -> list[TokenLogprobs]:
    """What `score_tokens` said, on the host; row i with its `num_top[i]` likeliest."""
    return [
        TokenLogprobs(token_id, logprob, rank, list(zip(top_ids[:k], top_values[:k], strict=True)))
        for ((token_id, rank, *top_ids), (logprob, *top_values)), k in zip(
            scores, num_top, strict=True
        )
    ]


def token_logprobs(logits: Tensor, token_ids: Tensor, num_top: list[int]) -> list[TokenLogprobs]:
    """logits [L, vocab_size] float32, token_ids [L] -> the logprobs of row i, with num_top[i]
    likeliest.

    One copy to the host for all rows.
    """
    if not num_top:
        return []
    ids, values = score_tokens(logits, token_ids, max(NUM_TOP, *num_top))
    return read_scores(zip(ids.tolist(), values.tolist(), strict=True), num_top)
