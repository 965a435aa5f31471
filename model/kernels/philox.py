"""The noise of draws, in one kernel instead of some 70 small ones.

Philox2x32-10 in unsigned words of 32 bits, which is what it was made for: the high half of a
product is one instruction. The twin is `uniform` in `server/engine/sampling/philox.py`, whose
docstring says what it is; it does the same in signed words of 64 bits. No number is rounded, so
both give the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options

BLOCK = 128
NUM_ROUNDS = 10
MULTIPLIER = 0xD256D193
KEY_STEP = 0x9E3779B9
FLOAT_BITS = 24


@triton.jit
def noise(
    left, right, key,
    BLOCK: tl.constexpr, NUM_ROUNDS: tl.constexpr, MULTIPLIER: tl.constexpr,
    KEY_STEP: tl.constexpr, FLOAT_BITS: tl.constexpr,
):  # fmt: skip
    """Numbers in [0, 1) [BLOCK] of words [BLOCK] uint32: a counter's two halves, and a key."""
    multiplier = tl.full([BLOCK], MULTIPLIER, tl.uint32)
    step = tl.full([BLOCK], KEY_STEP, tl.uint32)
    for _ in tl.static_range(NUM_ROUNDS):
        high = tl.umulhi(left, multiplier)
        low = left * multiplier
        left = high ^ right ^ key
        right = low
        key = key + step
    bits = (left >> (32 - FLOAT_BITS)).to(tl.float32)
    return bits * (1.0 / (1 << FLOAT_BITS))


@triton.jit(do_not_specialize=["num_rows"], do_not_specialize_on_alignment=["seeds", "positions"])
def philox_kernel(
    output, seeds, positions, num_rows,
    NUM_ROUNDS: tl.constexpr, MULTIPLIER: tl.constexpr, KEY_STEP: tl.constexpr,
    FLOAT_BITS: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < num_rows
    seed = tl.load(seeds + rows, inside, 0)
    left = tl.load(positions + rows, inside, 0).to(tl.uint32)
    right = (seed >> 32).to(tl.uint32)
    key = seed.to(tl.uint32)
    numbers = noise(left, right, key, BLOCK, NUM_ROUNDS, MULTIPLIER, KEY_STEP, FLOAT_BITS)
    tl.store(output + rows, numbers, inside)


def uniform(seeds: Tensor, positions: Tensor) -> Tensor:
    """Two int64 [R] -> numbers in [0, 1), float32 [R]."""
    seeds, positions = seeds.contiguous(), positions.contiguous()
    output = torch.empty(seeds.shape, dtype=torch.float32, device=seeds.device)
    if len(output):
        philox_kernel[(triton.cdiv(len(output), BLOCK),)](
            output, seeds, positions, len(output), NUM_ROUNDS=NUM_ROUNDS, MULTIPLIER=MULTIPLIER,
            KEY_STEP=KEY_STEP, FLOAT_BITS=FLOAT_BITS, BLOCK=BLOCK, num_warps=4,
            **launch_options(output.device),
        )  # fmt: skip
    return output
