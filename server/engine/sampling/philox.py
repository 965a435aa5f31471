"""The noise that decides a draw: Philox, a function of (seed, position) and of nothing else.

A counter-based generator has no state to carry along or to lose: the number of any token of any
answer can be had at any time, alone or in a batch, on the device that needs it, and again after a
preemption. Philox2x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy
as 1, 2, 3", SC 2011) multiplies a half of the counter by a constant and mixes the high half of the
product with the other half and a key that moves on by the golden ratio. It runs here in int64,
whose product wraps around at 2^64: its 64 bits are those of the unsigned product. On a GPU the same
is one kernel, `model/kernels/philox.py`, whose bits are these.
"""

from torch import Tensor

from thirdeye.model.placement import can_fuse

NUM_ROUNDS = 10
MULTIPLIER = 0xD256D193
KEY_STEP = 0x9E3779B9  # 2^32 divided by the golden ratio
MASK = 0xFFFFFFFF
FLOAT_BITS = 24  # of a float32's mantissa: each number is exact, and 1 is never reached


def philox(left: Tensor, right: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """One block of random bits: three tensors of one shape, int64 in [0, 2^32), to two of them."""
    for i in range(NUM_ROUNDS):
        product = left * MULTIPLIER
        left = ((product >> 32) ^ right ^ (key + i * KEY_STEP)) & MASK
        right = product & MASK
    return left, right


def uniform(seeds: Tensor, positions: Tensor) -> Tensor:
    """The numbers in [0, 1) that decide the tokens at `positions`: two int64 [R] -> float32 [R].

    All 64 bits of a seed count: the low half is the key, the high half stands in the counter.
    """
    if can_fuse(seeds.device):
        from thirdeye.model.kernels.philox import uniform as on_gpu  # noqa: PLC0415 (triton may be missing)

        numbers: Tensor = on_gpu(seeds, positions)
        return numbers
    bits, _ = philox(positions & MASK, (seeds >> 32) & MASK, seeds & MASK)
    return (bits >> (32 - FLOAT_BITS)).float() * 2.0**-FLOAT_BITS


def as_int64(seed: int) -> int:
    """The low 64 bits of any integer, as a tensor of int64 holds them."""
    return (seed + 2**63) % 2**64 - 2**63
