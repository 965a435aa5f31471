"""What the model thought of given tokens: of a text's own, or of those one wants to follow."""

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from thirdeye.model.inspection.probe import logit_lens
from thirdeye.model.transformer import Transformer


def surprisal(
    model: Transformer, resid: Tensor, input_ids: Tensor, max_rows: int
) -> Generator[None, None, Tensor]:
    """resid [n, hidden_size], behind the last block -> [n - 1, 3] of the tokens from the second
    on: -log p in nats, how many tokens were likelier, and the entropy of what was expected."""
    parts = [torch.empty(0, 3, device=resid.device)]
    for start in range(0, len(resid) - 1, max_rows):
        rows = resid[start : min(start + max_rows, len(resid) - 1)]
        logprobs = logit_lens(model, rows)
        own = input_ids[start + 1 : start + 1 + len(rows), None]
        scored = scores_of(logprobs, own)
        entropy = -(logprobs.exp() * logprobs.clamp_min(-1e30)).sum(-1)
        parts.append(torch.stack((-scored[:, 0, 0], scored[:, 0, 1], entropy), dim=-1))
        yield
    return torch.cat(parts)


def scores_of(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """logprobs [m, vocab_size], tokens [m, k] -> [m, k, 2]: logprob, and how many are likelier."""
    own = logprobs.gather(1, tokens)
    ranks = (logprobs[:, None] > own[..., None]).sum(-1)  # [m, k]
    return torch.stack((own, ranks.to(own)), dim=-1)


def follow(logprobs: Tensor, tokens: Sequence[int]) -> Tensor:
    """The same of the same tokens in each row."""
    chosen = torch.tensor(tokens, device=logprobs.device)
    return scores_of(logprobs, chosen.expand(len(logprobs), -1))
