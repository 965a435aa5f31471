"""How likely a token was: log-softmax of the model's raw logits, before anything a request asks
for."""

import torch
from torch import Tensor

from server.engine.types import TokenLogprobs


def token_logprobs(logits: Tensor, token_ids: Tensor, num_top: list[int]) -> list[TokenLogprobs]:
    """logits [L, vocab_size] float32, token_ids [L] -> the logprobs of row i, with num_top[i]
    likeliest.

    One copy to the host for all rows.
    """
    if not num_top:
        return []
    logprobs = logits.log_softmax(-1)  # [L, vocab_size]
    chosen = logprobs.gather(1, token_ids[:, None])  # [L, 1]
    ranks = (logprobs > chosen).sum(-1, keepdim=True) + 1  # [L, 1]
    top = logprobs.topk(min(max(num_top), logits.shape[-1]))  # [L, K]
    ids = torch.cat([token_ids[:, None], ranks, top.indices], dim=1).tolist()
    values = torch.cat([chosen, top.values], dim=1).tolist()
    return [
        TokenLogprobs(token_id, logprob, rank, list(zip(top_ids[:k], top_values[:k], strict=True)))
        for (token_id, rank, *top_ids), (logprob, *top_values), k in zip(
            ids, values, num_top, strict=True
        )
    ]
