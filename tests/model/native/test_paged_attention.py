"""Attention in C: right, by the textbook; the same bits in any company; and nobody else's NaN."""

import math
from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.attention.test_attention import Case, cache_of, poisoned_cache, scattered_batch
from tests.model.steps import Row, make_batch
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.reference import causal_mask, read_tokens
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.native.library import Library

EDGES = [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200]

CASES = st.builds(
    Case,
    lengths=st.lists(
        st.tuples(st.sampled_from([0, *EDGES]), st.sampled_from(EDGES)), min_size=1, max_size=5
    ),
    block_size=st.sampled_from([1, 3, 4, 16, 64]),
    num_heads=st.just(24),
    num_kv_heads=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]),
    head_dim=st.sampled_from([8, 20, 32, 64, 80, 128]),
    seed=st.integers(0, 1000),
)
FAR_APART = Case(  # two sound sums in fp32 that differ by 2.7e-6, on two sides of the exact one
    [(0, 65), (200, 16), (1, 65), (65, 65), (65, 65)], 64, 24, 6, head_dim=128, seed=342
)
PATIENT = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def attend(native: Library, query: Tensor, keys: Tensor, values: Tensor, batch: ForwardBatch):
    backend = NativeAttention(native)
    return backend.forward(query, keys, values, backend.plan(batch, cache_of(keys, values)))


def exact(query: Tensor, keys: Tensor, values: Tensor, batch: ForwardBatch) -> Tensor:
    """The textbook in float64. query [T, num_heads, head_dim], a layer's keys and values."""
    outputs = []
    for i, q in enumerate(query.double().split(batch.query_start_loc.diff().tolist())):
        length = int(batch.seq_lens[i])
        k, v = (  # [num_heads, L, head_dim]
            read_tokens(side, batch.block_table[i], length)
            .double()
            .repeat_interleave(query.shape[1] // side.shape[2], dim=1)
            .transpose(0, 1)
            for side in (keys, values)
        )
        scores = q.transpose(0, 1) @ k.transpose(1, 2) / math.sqrt(query.shape[2])
        mask = causal_mask(len(q), length, query.device)
        outputs.append((scores.masked_fill(~mask, -math.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


def tolerance(case: Case) -> float:
    """What rounding may do to an output in fp32, for queries, keys and values of variance 1.

    A sum of n such numbers wanders: its rounding, of unit u = 2^-24, has a deviation of
    u * n / sqrt(6) (each partial sum, of size sqrt(k), is off by u / sqrt(3) of it), so a score's
    is u * sqrt(head_dim / 6). An output moves by w (1 - w) |v - v'| <= 2 times as much, for values
    8 apart. Six deviations: no draw of a million elements finds them. The sum over the values,
    their weights and `exp` add less than u * sqrt(length) and four units.
    """
    length = max(past + new for past, new in case.lengths)
    return 2.0**-24 * (12 * math.sqrt(case.head_dim / 6) + math.sqrt(length) + 4)


def compare(native: Library, case: Case, dtype: torch.dtype) -> None:
    """Against the textbook, over a cache that is NaN wherever nobody may look."""
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g).to(dtype) for _ in range(2))
    query = torch.randn(len(batch.input_ids), case.num_heads, case.head_dim, generator=g)
    output = attend(native, query, keys, values, batch)
    expected = exact(query, keys, values, batch)
    torch.testing.assert_close(output.double(), expected, atol=tolerance(case), rtol=0)


@PATIENT
@given(case=CASES, is_half=st.booleans(), threads=st.sampled_from([1, 2]))
@example(case=FAR_APART, is_half=False, threads=1)
def test_any_batch(native: Library, case: Case, is_half: bool, threads: int) -> None:
    """Lengths at the edges of blocks and tiles, tables in random order, all shapes of heads."""
    torch.set_num_threads(threads)
    compare(native, case, torch.float16 if is_half else torch.float32)


def test_head_dims(native: Library) -> None:
    """Those no register holds evenly too."""
    for head_dim in (1, 7, 16, 40, 96, 100, 112, 160, 192, 256, 512):
        for dtype in (torch.float32, torch.float16):
            compare(native, Case([(70, 5), (0, 9), (30, 1)], 16, 6, 2, head_dim), dtype)


def test_many_heads_on_one_key_head(native: Library) -> None:
    """More rows of one query than any register tile, or its multiple, holds."""
    for num_heads in (5, 7, 23, 71):
        compare(native, Case([(100, 3), (64, 1)], 16, num_heads, 1, 16), torch.float32)


def test_long(native: Library) -> None:
    """Chunks of several tiles after a past of many blocks."""
    compare(native, Case([(900, 300), (1030, 1), (0, 257)], 16, 6, 2, 32), torch.float32)


class Sequences:
    """Three sequences in one cache, of which any step can be attended to."""

    num_heads, num_kv_heads, head_dim = 6, 2, 32
    lengths = (210, 131, 64)

    def __init__(self, native: Library, dtype: torch.dtype) -> None:
        self.native = native
        g = torch.Generator().manual_seed(3)
        free = torch.randperm(40, generator=g).tolist()
        self.blocks = [[free.pop() for _ in range(14)] for _ in range(2)] + [free[:12]]
        shape = (40, 16, self.num_kv_heads, self.head_dim)
        self.keys, self.values = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
        self.queries = [
            torch.randn(n, self.num_heads, self.head_dim, generator=g) for n in self.lengths
        ]

    def step(self, *spans: tuple[int, int, int]) -> list[Tensor]:
        """Attention of (sequence, start, stop), all in one step."""
        rows = [Row([0] * (stop - start), start, self.blocks[i]) for i, start, stop in spans]
        query = torch.cat([self.queries[i][start:stop] for i, start, stop in spans])
        output = attend(self.native, query, self.keys, self.values, make_batch(rows, 16))
        return list(output.split([stop - start for _, start, stop in spans]))


@PATIENT
@given(
    is_half=st.booleans(),
    cuts=st.lists(st.integers(1, 209), max_size=4),
    decoded=st.integers(0, 209),
    threads=st.sampled_from([1, 2, 3]),
)
def test_same_bits(
    native: Library, is_half: bool, cuts: list[int], decoded: int, threads: int
) -> None:
    """A prompt whole, in any chunks, beside others, token by token, on any number of threads."""
    sequences = Sequences(native, torch.float16 if is_half else torch.float32)
    torch.set_num_threads(1)
    whole = [sequences.step((i, 0, n))[0] for i, n in enumerate(sequences.lengths)]
    torch.set_num_threads(threads)
    ends = sorted({0, *cuts, 210})
    for start, stop in pairwise(ends):
        other = (1, start % 131, 131)
        mine, its, last = sequences.step((0, start, stop), other, (2, 63, 64))
        assert torch.equal(mine, whole[0][start:stop])
        assert torch.equal(its, whole[1][start % 131 :])
        assert torch.equal(last, whole[2][63:])
    alone = sequences.step((0, decoded, decoded + 1))[0]
    assert torch.equal(alone, whole[0][decoded : decoded + 1])
    drafts = sequences.step((0, decoded, min(decoded + 5, 210)))[0]
    assert torch.equal(drafts, whole[0][decoded : decoded + 5])


def test_a_nan_stays_with_its_sequence(native: Library) -> None:
    """It is not hidden from its own, and no other sees it."""
    sequences = Sequences(native, torch.float32)
    spans = [(0, 209, 210), (1, 100, 131), (2, 0, 64)]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sound = sequences.step(*spans)
        keys = sequences.keys.clone()
        sequences.keys[sequences.blocks[1][2], 5, 0, 7] = torch.nan
        broken = sequences.step(*spans)
        sequences.keys = keys
        assert torch.equal(broken[0], sound[0])
        assert torch.equal(broken[2], sound[2])
        assert broken[1][:, :3].isnan().all()  # the heads that share key head 0
        assert torch.equal(broken[1][:, 3:], sound[1][:, 3:])


def test_nobody_is_asked(native: Library) -> None:
    """A step without a token is a call without work."""
    sequences = Sequences(native, torch.float32)
    empty = torch.empty(0, 6, 32)
    batch = make_batch([Row([], 5, [1])], 16)
    assert attend(native, empty, sequences.keys, sequences.values, batch).shape == (0, 6, 32)


def test_a_table_may_be_a_part_of_a_wider_one(native: Library) -> None:
    """As where steps are launched ahead: the columns in use of those that a sequence may have."""
    case = Case([(200, 1), (17, 1)], 16, 6, 2, 32)
    g = torch.Generator().manual_seed(0)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g) for _ in range(2))
    query = torch.randn(2, case.num_heads, case.head_dim, generator=g)
    table = batch.block_table  # [2, M]
    wide = torch.zeros(2, 32, dtype=table.dtype)
    wide[:, : table.shape[1]] = table
    part = replace(batch, block_table=wide[:, :16])
    assert not part.block_table.is_contiguous()
    assert torch.equal(
        attend(native, query, keys, values, part), attend(native, query, keys, values, batch)
    )
