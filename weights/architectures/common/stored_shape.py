"""Which shape a tensor has to have in its file, for what the model makes of it."""

from dataclasses import replace
from typing import NamedTuple

from thirdeye.weights.architectures.common.name_table import TensorTarget

Sizes = tuple[int, ...]


class TensorShape(NamedTuple):
    """As a file's description has it. `is_packed`: of a matrix in blocks or in several tensors,
    which lie [out, in] whichever way the numbers lay that were quantized."""

    sizes: Sizes
    is_packed: bool = False


def stored_shape(target: TensorTarget, wanted: Sizes) -> Sizes:
    """`wanted` is the model's shape; whether it lies transposed is decided by now."""
    stored = tuple(reversed(wanted)) if target.is_transposed else wanted
    stored = stored[1:] if target.is_row else (stored[0] + target.first_row, *stored[1:])
    if target.is_depthwise:
        stored = (stored[0], 1, stored[1])
    if target.num_stored_rows:
        stored = (target.num_stored_rows, *stored[1:])
    if target.num_pieces:
        stored = (target.num_pieces, stored[0] // target.num_pieces)
    if target.num_heads:
        one = (stored[0] // target.num_heads, *stored[1:])
        stored = (target.num_heads, *(reversed(one) if target.is_across else one))
    if target.expert is not None:
        stored = (target.num_experts, *stored)
    return stored


def misfit(target: TensorTarget, wanted: Sizes, found: TensorShape) -> Sizes | None:
    """The shape that it ought to have, where it has another."""
    sizes = found.sizes or (1,)  # one number, which some files keep as a vector
    fits = [stored_shape(target, wanted)]
    if target.is_either_way or (target.is_transposed and found.is_packed):
        turned = replace(target, is_transposed=not target.is_transposed)
        fits.append(stored_shape(turned, wanted))
    return None if sizes in fits else fits[0]
