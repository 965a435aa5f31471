"""Which tokens' embeddings lie close: cosines, nearest neighbours, and what random pairs have."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.inspection.seeded import seeded
from thirdeye.model.transformer import Transformer

ROWS = 4096  # of the table, in a piece
NUM_PAIRS, SEED = 2000, 0


@dataclass(frozen=True, slots=True)
class Closeness:
    """Of k tokens."""

    cosines: Tensor  # [k, k]
    nearest: Tensor  # [k, num_nearest] token ids, others than the token
    nearest_cosines: Tensor  # [k, num_nearest]
    random: Tensor  # [2]: mean and standard deviation over random pairs, always the same


def closeness(
    model: Transformer, tokens: Sequence[int], num_nearest: int, is_centred: bool
) -> Generator[None, None, Closeness]:
    """`is_centred`: the mean of all embeddings is taken away first."""
    device = next(iter(model.parameters())).device
    size = model.config.vocab_size
    every = torch.split(torch.arange(size, device=device), ROWS)
    mean = torch.zeros((), device=device)
    if is_centred:
        for ids in every:
            mean = mean + model.embed_tokens(ids).float().sum(0) / size
            yield

    def units(ids: Tensor) -> Tensor:
        rows = model.embed_tokens(ids).float() - mean
        return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    own = units(torch.tensor(tokens, device=device))  # [k, width]
    best_ids = torch.empty(len(tokens), 0, dtype=torch.long, device=device)
    best = torch.empty(len(tokens), 0, device=device)
    for ids in every:
        found = own @ units(ids).T  # [k, ROWS]
        for row, token in enumerate(tokens):
            found[row, ids == token] = -2.0  # not its own neighbour
        best = torch.cat((best, found), dim=1)
        best_ids = torch.cat((best_ids, ids.expand(len(tokens), -1)), dim=1)
        best, places = best.topk(min(num_nearest, best.shape[1]), dim=1)
        best_ids = best_ids.gather(1, places)
        yield
    generator = seeded(SEED)
    pairs = torch.randint(size, (2, NUM_PAIRS), generator=generator).to(device)
    random = (units(pairs[0]) * units(pairs[1])).sum(-1)
    return Closeness(own @ own.T, best_ids, best, torch.stack((random.mean(), random.std())))
