"""Reading the fields of blocks, and what all types do with them, in as few passes as there are.

A pass over bytes is quick where it is long: so fields are copied out of the blocks as items of
their own size, bits are taken from whole words at once, and the arithmetic on floats is torch's,
whose loops over short groups are several times as fast as numpy's. Neither changes a result.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[Any]  # of whatever number type a field has
Unpack = Callable[[Bytes, Floats], None]  # blocks [n, block_bytes], out [n, block_size]


# Floats that all passes are done over before the next: half a MiB. The fields of more blocks than
# that are taken at once, for each pass over few of them costs as much to begin as to do.
IN_CACHE = 1 << 17


def field(blocks: Bytes, start: int, stop: int) -> Bytes:
    """These bytes of each block, in memory of their own: [n, stop - start]."""
    size = stop - start
    return blocks[:, start:stop].view(f"V{size}").copy().view(np.uint8).reshape(-1, size)


def words(blocks: Bytes, offset: int, count: int, dtype: str) -> Words:
    """`count` numbers of a `dtype` from this byte of each block on: [n, count]."""
    return field(blocks, offset, offset + count * np.dtype(dtype).itemsize).view(dtype)


def half(blocks: Bytes, offset: int) -> Floats:
    """The float16 at this byte of each block, as a column: [n, 1] float32."""
    return widen(words(blocks, offset, 1, "<f2"))


def widen(numbers: Words) -> Floats:
    """The same as float32."""
    import torch  # noqa: PLC0415 (a file's description is read without torch)

    wide: Floats = torch.from_numpy(numbers).float().numpy()
    return wide


def bit_planes(packed: Bytes, bits: int) -> Bytes:
    """[..., k] bytes -> [..., 8 / bits, k] numbers: the lowest `bits` of all bytes first."""
    width = packed.shape[-1]
    planes = np.empty((*packed.shape[:-1], 8 // bits, width), np.uint8)
    items = planes.view(f"V{width}")[..., 0]
    flat = np.ascontiguousarray(packed).reshape(-1)
    flat = flat.view(np.uint32) if flat.size % 4 == 0 else flat
    mask = flat.dtype.type(((1 << bits) - 1) * (0x01010101 & np.iinfo(flat.dtype).max))
    for i in range(8 // bits):
        plane = ((flat >> bits * i) if i else flat) & mask
        items[..., i] = plane.view(f"V{width}").reshape(packed.shape[:-1])
    return planes


def nibbles(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The low four bits of all bytes, and the high ones; `packed` is used up."""
    low = packed.reshape(-1).view(np.uint64)
    high = low >> np.uint64(4)
    mask = np.uint64(0x0F0F0F0F0F0F0F0F)
    low &= mask
    high &= mask
    return low.view(np.uint8), high.view(np.uint8)


def look_up(values: Words, q: Bytes) -> Words:
    """The int8 that each byte, below 16, stands for, in q's shape."""
    table = values.tobytes().ljust(256, b"\0")
    return np.frombuffer(bytearray(q).translate(table), np.int8).reshape(q.shape)


def scale_groups(
    q: Words,
    scale: Floats,
    out: Floats,
    *,
    odd: Words | None = None,
    plus: Floats | None = None,
    minus: Floats | None = None,
) -> None:
    """out = q * scale, plus or minus a number a group; each operation is rounded.

    q and out have the same size; scale, plus and minus [n, groups] are for groups of equal size.
    With `odd` q has the groups 0, 2, ... alone, and `odd` those between them. `out` is written
    once: all passes before the last are over a buffer that stays in the cache.
    """
    import torch  # noqa: PLC0415

    groups = torch.from_numpy(out).view(*scale.shape, -1)
    num_blocks, num_groups, width = groups.shape
    stride = 1 if odd is None else 2
    planes = [
        torch.from_numpy(plane).view(num_blocks, num_groups // stride, width)
        for plane in (q, odd)
        if plane is not None
    ]
    factor = torch.from_numpy(scale)[..., None]
    column = plus if plus is not None else minus
    added = None if column is None else torch.from_numpy(column)[..., None]
    join = torch.add if plus is not None else torch.sub
    step = max(IN_CACHE * num_blocks // max(out.size, 1), 1)
    buffer = torch.empty(min(step, num_blocks), num_groups, width)
    for start in range(0, num_blocks, step):
        rows = slice(start, start + step)
        target = groups[rows]
        some = buffer[: len(target)]
        for i, plane in enumerate(planes):
            some[:, i::stride].copy_(plane[rows])
        if added is None:
            torch.mul(some, factor[rows], out=target)
        else:
            join(some.mul_(factor[rows]), added[rows], out=target)
