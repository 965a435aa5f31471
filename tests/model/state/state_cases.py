"""Steps of layers that keep a state, and sizes of such layers."""

import torch
from torch import Tensor

from thirdeye.model.state.state_cache import ZEROS, StateSpans
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec

NUM_TOKENS, NUM_STATES = 23, 7


def spans_of(*rows: tuple[int, int, int, int]) -> StateSpans:
    return StateSpans(torch.tensor(rows, dtype=torch.int32))


WHOLE = spans_of((0, NUM_TOKENS, ZEROS, 0))
CUT = spans_of((0, 5, ZEROS, 3), (5, 1, 3, 3), (6, 10, 3, 6), (16, 7, 6, 0))
# Three sequences: one begins, keeps a snapshot and goes on; one has a token; one has drafts.
SEVERAL = spans_of(
    *((0, 5, ZEROS, 3), (5, 1, 3, 3), (6, 4, 3, 6)),
    (10, 1, 2, 2),
    *((11, 8, 4, 5), (19, 1, 5, 1), (20, 3, 1, 0)),
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


DELTA_NETS = {
    "plain": DeltaNetSpec(2, 2, 16, 16, 4),
    "shared": DeltaNetSpec(2, 6, 12, 20, 3),
    "tiled": DeltaNetSpec(2, 6, 12, 20, 3, is_tiled=True),
    "wide": DeltaNetSpec(1, 2, 24, 130, 4),
}
MAMBAS = {
    "one group": Mamba2Spec(4, 1, head_size=16, state_size=12, kernel=4),
    "groups": Mamba2Spec(6, 3, head_size=20, state_size=7, kernel=2),
    "wide": Mamba2Spec(2, 2, head_size=130, state_size=24, kernel=4),
    "norm first": Mamba2Spec(6, 2, head_size=20, state_size=9, kernel=3, gates_first=False),
    "no norm": Mamba2Spec(3, 1, head_size=33, state_size=5, kernel=3, has_norm=False),
}


def numbers_of(spec: Mamba2Spec) -> tuple[Tensor, Tensor, Tensor]:
    """Decay, shift and skip of each head."""
    heads = spec.num_heads
    return -random(heads, seed=4).exp(), random(heads, seed=5), random(heads, seed=6)
