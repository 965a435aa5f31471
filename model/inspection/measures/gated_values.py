"""How long what a key's value adds is where heads are gated by the token that looks.

Such a head adds W_O (g_m * sum_n a_mn v_n), channel by channel let through as token m says: what
key n gives it is a_mn W_O (g_m * v_n), whose length is another for each token that looks.
"""

from collections.abc import Generator

import torch
from torch import Tensor


def gated_lengths(
    gates: Tensor, values: Tensor, columns: Tensor, max_rows: int
) -> Generator[None, None, Tensor]:
    """gates [m, head_dim] of one head at the tokens that look, values [n, head_dim] of what they
    may look at, columns [head_dim, hidden_size] that the head's channels add -> [m, n] fp32. Each
    yield is the end of a piece of no more than some million products."""
    products = columns.double() @ columns.double().mT  # [head_dim, head_dim]
    at_once = max(1, 8 * max_rows // len(values))
    found = []
    for rows in torch.split(gates.double(), at_once):
        let_through = rows[:, None] * values.double()  # [rows, n, head_dim]
        squares = ((let_through @ products) * let_through).sum(-1)
        found.append(squares.clamp_min(0).sqrt().float())
        yield
    return torch.cat(found)
