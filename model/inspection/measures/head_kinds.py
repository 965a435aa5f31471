"""What each head does with repeated random tokens: does it look at the token before, at an earlier
copy of its own token, or behind that copy?

Definitions are those of TransformerLens's `head_detector` with its error measure "mul": of all the
weight a head gives, the share that lies where such a head would look. Induction heads: Olsson et
al. 2022, "In-context Learning and Induction Heads".
"""

import math
from collections.abc import Generator

import torch
from torch import Tensor

from thirdeye.model.inspection.probe import trace_layers
from thirdeye.model.inspection.seeded import seeded
from thirdeye.model.transformer import Transformer

KINDS = ("previous_token", "duplicate_token", "induction")
NUM_RANDOM, SEED = 30, 0


def random_text(vocab_size: int) -> list[int]:
    """Random tokens, twice: always the same ones."""
    generator = seeded(SEED)
    once = torch.randint(vocab_size, (NUM_RANDOM,), generator=generator).tolist()
    return [*once, *once]


def head_kinds(
    model: Transformer, token_ids: list[int], max_rows: int, kv_dtype: torch.dtype | None
) -> Generator[None, None, Tensor]:
    """[kinds, layers, heads], NaN in layers without heads; each yield is the end of a piece."""
    ids = torch.tensor(token_ids, device=next(iter(model.parameters())).device)
    wanted = torch.stack([previous(ids), duplicate(ids), induction(ids)])  # [kinds, n, n]
    layers = []
    for trace in trace_layers(model, ids, max_rows, kv_dtype):
        yield
        if trace is not None:
            pattern = trace.pattern  # [heads, n, n]
            shares = (pattern[None] * wanted[:, None]).sum((-2, -1)) / pattern.sum((-2, -1))
            without = shares.new_full((len(KINDS), model.config.num_heads), math.nan)
            layers.append(shares if trace.num_heads else without)
            yield
    return torch.stack(layers, dim=1)


def previous(ids: Tensor) -> Tensor:
    """[n, n], 1 where a head of this kind looks; and so are the others."""
    return torch.ones(len(ids) - 1, device=ids.device).diag(-1)


def duplicate(ids: Tensor) -> Tensor:
    same = (ids[:, None] == ids[None]).float()
    return same.tril(diagonal=-1)


def induction(ids: Tensor) -> Tensor:
    behind = duplicate(ids).roll(1, dims=1)
    behind[:, 0] = 0
    return behind.tril()
