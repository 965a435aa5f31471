"""Logits to tokens, and these into the state of their slots, in four launches for any mix of rows.

    maxima    the largest logit of a piece of a row, and where it is     grid: rows x pieces
    limits    how far below the largest a token may lie to be drawn      grid: rows
    masses    what the tokens of a piece weigh that may be drawn         grid: rows x pieces
    pick      a row's token, drawn or likeliest, into its slot           grid: rows

What a row asks for is read from its slot's header on the device, so nobody has to know on the host
whether a row is greedy or draws, by min-p, top-k or top-p: those that ask for less do less.

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

PIECE = 4096  # logits of one program
STEP = 1024  # logits that a limit is looked for in at a time
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
    x = tl.load(logits + columns, columns < size, -float("inf"))
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
def maxima_kernel(maxima, places, logits, size, PIECE: tl.constexpr, DEPENDENT: tl.constexpr):
    begin(DEPENDENT)
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = piece * PIECE + tl.arange(0, PIECE)
    x = tl.load(logits + row * size + columns, columns < size, -float("inf"))
    largest = tl.max(x, 0)
    place = tl.min(tl.where(x == largest, columns, size), 0)
    is_broken = tl.max((x != x).to(tl.int32), 0) > 0  # a maximum need not be NaN by itself
    into = row * tl.num_programs(1) + piece
    tl.store(maxima + into, tl.where(is_broken, float("nan"), largest))
    tl.store(places + into, place)


@triton.jit(do_not_specialize=BY_BATCH)
def limits_kernel(
    limits, logits, maxima, table, slots, size, num_pieces, stride_table,
    STEP: tl.constexpr, PIECES: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    words = table + tl.load(slots + row).to(tl.int64) * stride_table
    temperature = as_float(words + TEMPERATURE)
    if temperature > 0:
        pieces = tl.arange(0, PIECES)
        own = tl.load(maxima + row * num_pieces + pieces, pieces < num_pieces, -float("inf"))
        largest = tl.max(own, 0)
        limit = -as_float(words + LOG_MIN_P)
        top_k, top_p = tl.load(words + TOP_K), as_float(words + TOP_P)
        of_row = logits + row * size
        if (top_k > 0) & (top_k < size):
            goal = top_k.to(tl.float32)
            by_count = find_limit(of_row, size, largest, temperature, limit, goal, False, STEP)
            limit = tl.minimum(limit, by_count)
        if top_p < 1:
            by_mass = find_limit(of_row, size, largest, temperature, limit, top_p, True, STEP)
            limit = tl.minimum(limit, by_mass)
        tl.store(limits + row, limit)


@triton.jit(do_not_specialize=BY_BATCH)
def masses_kernel(
    masses, logits, maxima, limits, table, slots, size, stride_table,
    PIECE: tl.constexpr, PIECES: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    num_pieces = tl.num_programs(1)
    words = table + tl.load(slots + row).to(tl.int64) * stride_table
    temperature = as_float(words + TEMPERATURE)
    if temperature > 0:
        pieces = tl.arange(0, PIECES)
        own = tl.load(maxima + row * num_pieces + pieces, pieces < num_pieces, -float("inf"))
        columns = piece * PIECE + tl.arange(0, PIECE)
        far = distances(logits + row * size, columns, size, tl.max(own, 0), temperature)
        mass = tl.where(far <= tl.load(limits + row), tl.exp(-far), 0.0)
        tl.store(masses + row * num_pieces + piece, tl.sum(mass, 0))


@triton.jit(do_not_specialize=BY_BATCH)
def pick_kernel(
    output, table, slots, logits, maxima, places, limits, masses, offsets, size, num_pieces, scrap,
    stride_table,
    ADVANCE: tl.constexpr, VERIFY: tl.constexpr, PIECE: tl.constexpr, PIECES: tl.constexpr,
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
    position = tl.load(words + POSITION)
    if VERIFY:
        position += tl.load(offsets + row)
    pieces = tl.arange(0, PIECES)
    is_piece = pieces < num_pieces
    own = tl.load(maxima + row * num_pieces + pieces, is_piece, -float("inf"))
    largest = tl.max(own, 0)
    is_broken = tl.max((own != own).to(tl.int32), 0) > 0
    is_finite = (largest > -float("inf")) & (largest < float("inf")) & (not is_broken)
    place = tl.load(places + row * num_pieces + pieces, is_piece, size)
    token = tl.min(tl.where(own == largest, place, size), 0)
    temperature = as_float(words + TEMPERATURE)
    if temperature > 0:
        sums = tl.load(masses + row * num_pieces + pieces, is_piece, 0.0)
        one = tl.zeros([1], tl.uint32)
        left = one + (position + (1 if ADVANCE else 0)).to(tl.uint32)
        right = one + tl.load(words + SEED_HIGH).to(tl.uint32)
        key = one + tl.load(words + SEED_LOW).to(tl.uint32)
        u = noise(left, right, key, 1, NUM_ROUNDS, MULTIPLIER, KEY_STEP, FLOAT_BITS)
        target = tl.sum(u, 0) * tl.sum(sums, 0)
        is_past = (tl.cumsum(sums, 0) > target) & (sums > 0)
        last = tl.max(tl.where(sums > 0, pieces, 0), 0)  # where rounding leaves none
        piece = tl.minimum(tl.min(tl.where(is_past, pieces, PIECES), 0), last)
        before = tl.sum(tl.where(pieces < piece, sums, 0.0), 0)
        columns = piece * PIECE + tl.arange(0, PIECE)
        far = distances(logits + row * size, columns, size, largest, temperature)
        mass = tl.where(far <= tl.load(limits + row), tl.exp(-far), 0.0)
        is_past = (before + tl.cumsum(mass, 0) > target) & (mass > 0)
        last = tl.max(tl.where(mass > 0, columns, 0), 0)
        token = tl.minimum(tl.min(tl.where(is_past, columns, size), 0), last)
    token = tl.minimum(token, size - 1)  # beyond only where nothing is a number
    tl.store(output + row * 2, is_finite.to(tl.int64))
    tl.store(output + row * 2 + 1, token.to(tl.int64))
    if not VERIFY:
        tl.store(words + TOKEN, token)
    if ADVANCE and not VERIFY:
        tl.store(words + POSITION, position + (slot != scrap).to(tl.int32))


def choose_tokens(
    logits: Tensor, table: Tensor, slots: Tensor, *, advance: bool, offsets: Tensor | None = None
) -> Tensor:
    """logits [R, vocab_size] float32; table [slots + 1, width] int32, whose last slot is scrap;
    slots [R] int64 -> [R, 2] int64: whether all logits are numbers, and the token.

    The token becomes its slot's; with `advance` the slot's position is that of the token before
    and grows by one, without it it is the token's own. With `offsets` [R] int32 rows stand so far
    behind their slots, several of which may be of one, and no slot is written
    (`accept_drafts.py` does that).
    """
    logits = logits.contiguous()
    num_rows, size = logits.shape
    device = logits.device
    output = torch.empty(num_rows, 2, dtype=torch.int64, device=device)
    if not num_rows:
        return output
    num_pieces = triton.cdiv(size, PIECE)
    maxima = torch.empty(num_rows, num_pieces, dtype=torch.float32, device=device)
    masses = torch.empty_like(maxima)
    places = torch.empty(num_rows, num_pieces, dtype=torch.int32, device=device)
    limits = torch.empty(num_rows, dtype=torch.float32, device=device)
    early = launch_options(device)
    many = {"PIECES": triton.next_power_of_2(num_pieces), **early}
    stride, scrap = table.stride(0), len(table) - 1
    maxima_kernel[num_rows, num_pieces](
        maxima, places, logits, size, PIECE=PIECE, num_warps=8, **early
    )
    limits_kernel[(num_rows,)](
        limits, logits, maxima, table, slots, size, num_pieces, stride, STEP=STEP, num_warps=16,
        **many,
    )  # fmt: skip
    masses_kernel[num_rows, num_pieces](
        masses, logits, maxima, limits, table, slots, size, stride, PIECE=PIECE, num_warps=8, **many
    )  # fmt: skip
    pick_kernel[(num_rows,)](
        output, table, slots, logits, maxima, places, limits, masses,
        slots if offsets is None else offsets, size, num_pieces, scrap, stride,
        ADVANCE=advance, VERIFY=offsets is not None, PIECE=PIECE, NUM_ROUNDS=NUM_ROUNDS,
        MULTIPLIER=MULTIPLIER, KEY_STEP=KEY_STEP, FLOAT_BITS=FLOAT_BITS, num_warps=8, **many,
    )  # fmt: skip
    return output
