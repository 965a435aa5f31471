"""Whole numbers of a few bits in 32-bit words, each group with a scale and a zero point."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unpack(words: "Tensor", bits: int) -> "Tensor":
    """[n, w] int32 -> [n, 32 w / bits] uint8, cut to whole numbers: a stream of bits, lowest first,
    in which a number may cross from a word into the next."""
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    if bits in (1, 2, 4, 8):
        return split_bytes(words.contiguous().view(torch.uint8), bits)
    count = words.shape[1] * 32 // bits
    wide = words.to(torch.int64) & 0xFFFFFFFF
    start = torch.arange(count) * bits
    word, shift = start // 32, start % 32
    following = (word + 1).clamp(max=words.shape[1] - 1)  # read only where a number crosses over
    pairs = wide[:, word] | wide[:, following] << 32
    return (pairs >> shift & (1 << bits) - 1).to(torch.uint8)


def split_bytes(packed: "Tensor", bits: int) -> "Tensor":
    """[n, k] uint8 -> [n, 8 k / bits] numbers, the lowest bits of a byte first."""
    import torch  # noqa: PLC0415

    if bits == 8:
        return packed
    mask = (1 << bits) - 1
    parts = [packed >> shift & mask for shift in range(0, 8, bits)]
    return torch.stack(parts, dim=-1).reshape(len(packed), -1)


def scale_groups(
    numbers: "Tensor",
    scale: "Tensor",
    zero: "Tensor | float",
    group_size: int,
    group_of: "Tensor | None" = None,
) -> "Tensor":
    """(q - zero) * scale, in float32.

    numbers [n, in] of whatever integers, scale and zero [n, groups]. Column j is of group
    `group_of[j]`, or, if that is None, of group j // group_size.
    """
    import torch  # noqa: PLC0415

    height, width = numbers.shape
    scale = scale.float()
    zero = zero.float() if isinstance(zero, torch.Tensor) else scale.new_full((1, 1), zero)
    zero = zero.expand_as(scale)
    if group_of is None and width % group_size == 0:
        groups = numbers.reshape(height, -1, group_size).float()
        groups -= zero[..., None]
        groups *= scale[..., None]
        return groups.reshape(height, width)
    if group_of is None:
        group_of = torch.arange(width) // group_size
    weight = numbers.float()
    weight -= zero.index_select(1, group_of)
    weight *= scale.index_select(1, group_of)
    return weight
