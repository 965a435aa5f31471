"""The sampler's kernels for steps that are not launched ahead, whose rows have no slots yet."""

from collections.abc import Sequence as Seq
from struct import iter_unpack, pack

import torch
from torch import Tensor

HEADER = 16  # words of a slot, as the kernels read them


def choose_in_kernels(
    logits: Tensor, draw_params: Seq[tuple[float, float, float, int, int]], positions: Seq[int]
) -> Tensor:
    """logits [R, vocab_size], a `DrawParams` of each row -> token ids [R], any where there is none:
    greedy or drawn at `positions`. The device must be one that has kernels."""
    from thirdeye.model.kernels.choose_tokens import choose_tokens  # noqa: PLC0415 (triton may be missing)

    rows = zip(draw_params, positions, strict=True)
    packed = [pack("<2i3fiq", 0, position, *row) for row, position in rows]
    words = [[word for (word,) in iter_unpack("<i", row)] for row in packed]
    slots = [[*row, *[0] * (HEADER - len(row))] for row in words] + [[0] * HEADER]  # and scrap
    table = torch.tensor(slots, dtype=torch.int32, device=logits.device)
    order = torch.arange(len(packed), device=logits.device)
    chosen: Tensor = choose_tokens(logits, table, order, advance=False)
    return chosen[:, 1]
