"""Logits to tokens, and these into the state of their slots, in one launch for any mix of rows.

A program has a row, and goes over its logits a piece at a time:

    largest    the largest logit, and where it is
    limit      how far below the largest a token may lie to be drawn
    masses     what the tokens of each piece weigh that may be drawn
    pick       the row's token, drawn or likeliest, into its slot

What a row asks for is read from its slot's header on the device, so nobody has to know on the host
whether a row is greedy or draws, by min-p, top-k or top-p: those that ask for less do less. A
multiprocessor reads a row of 128,256 logits in bf16 in 2 or 3 us, about what a launch costs that
would deal it out.

Nothing is sorted. "The k likeliest" and "the smallest set that holds p" are both a limit: the least
distance from the largest logit within which tokens count, or weigh, as much as is asked for. What
lies within a distance only grows with it, so its bits are found from the first to the last, four at
a time, by what lies within each of 16 candidates. That is exact, keeps ties with the last token as
a sort would, and goes along a row in one order whatever else is in the batch. Sums of masses are
made in one order too, and a token without mass is never drawn. The twin is `draw` in
`server/engine/sampling/sampler.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.kernels.philox import FLOAT_BITS, KEY_STEP, MULTIPLIER, NUM_ROUNDS, noise

PIECE = 4096  # logits that are read at a time, whose masses are summed
STEP = 1024  # logits that a limit is looked for in at a time
NUM_WARPS = 16  # of a row
DIGITS = tl.constexpr(16)  # candidates for the next 4 bits

# Words of a slot's header: floats as their bits. `SlotField` of the server has the same.
TOKEN = tl.constexpr(0)
POSITION = tl.constexpr(1)
TEMPERATURE = tl.constexpr(2)
TOP_P = tl.constexpr(3)
LOG_MIN_P = tl.constexpr(4)
TOP_K = tl.constexpr(5)
SEED_LOW = tl.constexpr(6)
SEED_HIGH = tl.constexpr(7)

# Integers that differ between the callers: one machine code for all.
BY_BATCH = ("stride_table", "scrap")
SMALLEST = tl.constexpr(1e-30)  # of a temperature


@triton.jit
def as_float(words):
    return tl.load(words).to(tl.float32, bitcast=True)


@triton.jit
def distances(logits, columns, size, largest, temperature):
    """How far below the largest, in units of the temperature: 0 and more."""
    x = tl.load(logits + columns, columns < size, -float("inf")).to(tl.float32)
    heat = tl.zeros_like(x) + tl.maximum(temperature, SMALLEST)
    return tl.div_rn(largest - x, heat)


@triton.jit
def find_limit(
    logits, size, largest, temperature, limit, goal, BY_MASS: tl.constexpr, STEP: tl.constexpr
):
    """The least distance within which tokens number `goal`, or with `BY_MASS` weigh that part of
    what all within `limit` weigh."""
    digits = tl.arange(0, DIGITS).to(tl.uint32)
    if BY_MASS:
        weights = tl.zeros([STEP], tl.float32)
        for start in range(0, size, STEP):
            far = distances(logits, start + tl.arange(0, STEP), size, largest, temperature)
            weights += tl.where(far <= limit, tl.exp(-far), 0.0)
        goal = goal * tl.sum(weights, 0)
    found = tl.zeros([1], tl.uint32)
    for round in range(8):
        shift = tl.zeros([1], tl.uint32) + (28 - 4 * round)
        candidates = found + ((digits + 1) << shift) - 1  # [16], the largest with these bits
        within = tl.zeros([STEP, DIGITS], tl.float32)
        for start in range(0, size, STEP):
            columns = start + tl.arange(0, STEP)
            far = distances(logits, columns, size, largest, temperature)
            if BY_MASS:
                weight = tl.where(far <= limit, tl.exp(-far), 0.0)
            else:
                weight = (columns < size).to(tl.float32)
            is_within = far.to(tl.uint32, bitcast=True)[:, None] <= candidates[None, :]
            within += tl.where(is_within, weight[:, None], 0.0)
        short = tl.sum((tl.sum(within, 0) < goal).to(tl.int32), 0)
        found += tl.minimum(short, DIGITS - 1).to(tl.uint32) << shift
    return tl.sum(found.to(tl.float32, bitcast=True), 0)


@triton.jit
def find_largest(logits, size, PIECE: tl.constexpr):
    """The largest logit, its first place, and whether all are numbers."""
    best = tl.full([PIECE], -float("inf"), tl.float32)
    places = tl.arange(0, PIECE)  # where there is none above -inf
    are_broken = tl.zeros([PIECE], tl.int32)
    for start in range(0, size, PIECE):
        columns = start + tl.arange(0, PIECE)
        x = tl.load(logits + columns, columns < size, -float("inf")).to(tl.float32)
        places = tl.where(x > best, columns, places)
        best = tl.where(x > best, x, best)
        are_broken |= (x != x).to(tl.int32)  # a maximum need not be NaN by itself
    largest = tl.max(best, 0)
    place = tl.min(tl.where(best == largest, places, size), 0)
    is_broken = tl.max(are_broken, 0) > 0
    is_finite = (largest > -float("inf")) & (largest < float("inf")) & (not is_broken)
    return largest, place, is_finite


@triton.jit
def draw_limit(words, logits, size, largest, temperature, STEP: tl.constexpr):
    """How far from the largest a row may draw, in units of its temperature."""
    limit = -as_float(words + LOG_MIN_P)
    top_k, top_p = tl.load(words + TOP_K), as_float(words + TOP_P)
    if (top_k > 0) & (top_k < size):
        goal = top_k.to(tl.float32)
        by_count = find_limit(logits, size, largest, temperature, limit, goal, False, STEP)
        limit = tl.minimum(limit, by_count)
    if top_p < 1:
        by_mass = find_limit(logits, size, largest, temperature, limit, top_p, True, STEP)
        limit = tl.minimum(limit, by_mass)
    return limit


@triton.jit
def masses(logits, columns, size, largest, temperature, limit):
    far = distances(logits, columns, size, largest, temperature)
    return tl.where(far <= limit, tl.exp(-far), 0.0)


@triton.jit
def draw(
    u, logits, size, largest, temperature, limit, PIECE: tl.constexpr, PIECES: tl.constexpr
):  # fmt: skip
    """The token at which the sum of masses passes `u` of all of it."""
    pieces = tl.arange(0, PIECES)
    sums = tl.zeros([PIECES], tl.float32)
    for start in range(0, size, PIECE):
        columns = start + tl.arange(0, PIECE)
        mass = masses(logits, columns, size, largest, temperature, limit)
        sums = tl.where(pieces == start // PIECE, tl.sum(mass, 0), sums)
    target = u * tl.sum(sums, 0)
    is_past = (tl.cumsum(sums, 0) > target) & (sums > 0)
    last = tl.max(tl.where(sums > 0, pieces, 0), 0)  # where rounding leaves none
    piece = tl.minimum(tl.min(tl.where(is_past, pieces, PIECES), 0), last)
    before = tl.sum(tl.where(pieces < piece, sums, 0.0), 0)
    columns = piece * PIECE + tl.arange(0, PIECE)
    mass = masses(logits, columns, size, largest, temperature, limit)
    is_past = (before + tl.cumsum(mass, 0) > target) & (mass > 0)
    last = tl.max(tl.where(mass > 0, columns, 0), 0)
    return tl.minimum(tl.min(tl.where(is_past, columns, size), 0), last)


@triton.jit(do_not_specialize=BY_BATCH, do_not_specialize_on_alignment=("offsets",))
def choose_tokens_kernel(
    output, limits, table, slots, logits, offsets, size, scrap, stride_table,
    ADVANCE: tl.constexpr, VERIFY: tl.constexpr, PIECE: tl.constexpr, PIECES: tl.constexpr,
    STEP: tl.constexpr,
    NUM_ROUNDS: tl.constexpr, MULTIPLIER: tl.constexpr, KEY_STEP: tl.constexpr,
    FLOAT_BITS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """With `ADVANCE` a slot stands at the token before the one that is chosen, and goes on; the
    scrap slot stays where it is. With `VERIFY` as well a row stands `offsets` behind its slot, of
    which nothing is written here: which of its rows count is found out when all have chosen."""
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row).to(tl.int64)
    words = table + slot * stride_table
    of_row = logits + row * size
    position = tl.load(words + POSITION)
    if VERIFY:
        position += tl.load(offsets + row)
    largest, token, is_finite = find_largest(of_row, size, PIECE)
    temperature = as_float(words + TEMPERATURE)
    if temperature > 0:
        limit = draw_limit(words, of_row, size, largest, temperature, STEP)
        tl.store(limits + row, limit)
        one = tl.zeros([1], tl.uint32)
        left = one + (position + (1 if ADVANCE else 0)).to(tl.uint32)
        right = one + tl.load(words + SEED_HIGH).to(tl.uint32)
        key = one + tl.load(words + SEED_LOW).to(tl.uint32)
        u = noise(left, right, key, 1, NUM_ROUNDS, MULTIPLIER, KEY_STEP, FLOAT_BITS)
        token = draw(tl.sum(u, 0), of_row, size, largest, temperature, limit, PIECE, PIECES)
    tl.store(output + row * 2, is_finite.to(tl.int64))
    tl.store(output + row * 2 + 1, token.to(tl.int64))
    if not VERIFY:
        tl.store(words + TOKEN, token)
    if ADVANCE and not VERIFY:
        tl.store(words + POSITION, position + (slot != scrap).to(tl.int32))


def choose_tokens(
    logits: Tensor, table: Tensor, slots: Tensor, *, advance: bool, offsets: Tensor | None = None
) -> Tensor:
    """logits [R, vocab_size], of any floats; table [slots + 1, width] int32, whose last slot is
    scrap; slots [R] int64 -> [R, 2] int64: whether all logits are numbers, and the token.

    The token becomes its slot's; with `advance` the slot's position is that of the token before
    and grows by one, without it it is the token's own. With `offsets` [R] int32 rows stand so far
    behind their slots, several of which may be of one, and no slot is written
    (`accept_drafts.py` does that).
    """
    return choose_within(logits, table, slots, advance=advance, offsets=offsets)[0]


def choose_within(
    logits: Tensor, table: Tensor, slots: Tensor, *, advance: bool, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same, and how far below their largest logits rows draw [R], in units of their
    temperatures; anything of greedy ones."""
    logits = logits.contiguous()
    num_rows, size = logits.shape
    output = torch.empty(num_rows, 2, dtype=torch.int64, device=logits.device)
    limits = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    if num_rows:
        choose_tokens_kernel[(num_rows,)](
            output, limits, table, slots, logits, offsets, size, len(table) - 1, table.stride(0),
            ADVANCE=advance, VERIFY=offsets is not None, PIECE=PIECE,
            PIECES=triton.next_power_of_2(triton.cdiv(size, PIECE)),
            STEP=STEP, NUM_ROUNDS=NUM_ROUNDS, MULTIPLIER=MULTIPLIER, KEY_STEP=KEY_STEP,
            FLOAT_BITS=FLOAT_BITS, num_warps=NUM_WARPS, **launch_options(logits.device),
        )  # fmt: skip
    return output, limits
