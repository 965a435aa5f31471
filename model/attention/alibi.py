"""ALiBi: how fast each head's scores fall with distance, where a model has no positions.

score -= slope * (position of the query - position of the key) (Press, Smith, Lewis 2021, "Train
Short, Test Long"). Of n heads, a power of two, head i = 1, 2, ... has 2 ** (-max_bias * i / n); of
any number, the largest such n of them have these, the others every second of the slopes of 2 n.
"""

import torch
from torch import Tensor

from thirdeye.model.config import Alibi
from thirdeye.model.placement import Placement


def alibi_slopes(alibi: Alibi, num_heads: int, where: Placement) -> Tensor:
    """Of this rank's share of all heads, in fp32: [num_heads / ranks]."""
    n = 1 << (num_heads.bit_length() - 1)
    first = torch.arange(1, n + 1, dtype=torch.float64) / n
    others = (torch.arange(num_heads - n, dtype=torch.float64) + 0.5) / n
    slopes = alibi.scale * 2 ** (-alibi.max_bias * torch.cat((first, others)))
    own = slopes.chunk(where.ranks.size)[where.ranks.rank]
    return own.to(where.device, torch.float32)


def distances(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """[n, L] fp32: from each of the last n of L positions back to each of them all."""
    positions = torch.arange(num_keys, dtype=torch.float32, device=device)
    return positions[num_keys - num_queries :, None] - positions
