"""Scales, windows, soft caps, ALiBi, sinks: each backend against the textbook, that by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from tests.draws import draws
from tests.model.attention.test_attention import Case, cache_of, poisoned_cache, scattered_batch
from thirdeye.model.attention.alibi import alibi_slopes
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.reference import ReferenceAttention, attend
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import Alibi, AttentionSpec
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import Alone
from thirdeye.model.placement import Placement

NUM_HEADS = 6
WHERE = Placement(torch.float32, torch.device("cpu"))
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0, -30.0, 9.0])
SPECS = {
    "scale": AttentionSpec(scale=0.7),
    "window": AttentionSpec(window=20),
    "window of one": AttentionSpec(window=1),
    "wide window": AttentionSpec(window=150),
    "stretches": AttentionSpec(chunk=50),
    "stretches and a window": AttentionSpec(chunk=130, window=70, sinks=True),
    "soft cap": AttentionSpec(softcap=1.5),
    "sinks": AttentionSpec(sinks=True),
    "alibi": AttentionSpec(alibi=Alibi()),
    "all": AttentionSpec(scale=0.3, window=70, softcap=2.0, sinks=True),
    "all and alibi": AttentionSpec(
        scale=0.3, window=70, softcap=2.0, sinks=True, alibi=Alibi(5.0, 0.3)
    ),
}
CASES = {  # new tokens after a past, beside others: the edges of blocks of 16, 64 and 128 keys
    "ragged": Case([(0, 55), (200, 5), (64, 1), (19, 2), (0, 1), (127, 35)], 16, NUM_HEADS, 2, 16),
    "decode": Case([(n, 1) for n in (0, 1, 19, 20, 63, 64, 150, 300)], 16, NUM_HEADS, 3, 20),
    "odd blocks": Case([(10, 40), (33, 1)], 3, NUM_HEADS, 6, 8),
    "long": Case([(600, 70), (900, 1)], 16, NUM_HEADS, 1, 32),
}


def by(
    backend: AttentionBackend,
    case: Case,
    spec: AttentionSpec,
    dtype: torch.dtype = torch.float32,
    is_rounded: bool = False,
) -> Tensor:
    """NaN wherever no sequence has a token: a foreign slot would show. `dtype` is the cache's, and
    `is_rounded` says that its numbers are those of fp16 in any case."""
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g) for _ in range(2))
    if spec.latent is not None:
        values = keys[..., spec.latent.rope_size :]
    elif is_rounded:
        keys, values = (cache.half().to(dtype) for cache in (keys, values))
    shape = (len(batch.positions), case.num_heads + 2 * case.num_kv_heads, case.head_dim)
    query = 2 * torch.randn(shape, generator=g)[:, : case.num_heads]
    backend = backend.for_layers(spec)
    plan = backend.plan(batch, cache_of(keys, values))
    sinks = SINKS if spec.sinks else None
    slopes = alibi_slopes(spec.alibi, NUM_HEADS, WHERE) if spec.alibi else None
    return backend.forward(query, keys, values, plan, sinks, slopes)


def compare(backend: AttentionBackend, case: Case, spec: AttentionSpec) -> None:
    expected = by(ReferenceAttention(), case, spec)
    torch.testing.assert_close(by(backend, case, spec), expected, atol=1e-5, rtol=1e-5)


BACKENDS: dict[str, Callable[[Library], AttentionBackend]] = {
    "blocked": lambda _: BlockedAttention(),
    "native": NativeAttention,
    "sdpa": lambda _: SdpaAttention(),
    "triton, one lane": lambda _: TritonAttention(num_multiprocessors=1),
    "triton, lanes": lambda _: TritonAttention(num_multiprocessors=64),
}


LATENT = AttentionSpec(scale=0.3, latent=LatentSpec(24, 8, key_size=12, value_size=10))
OVER_LATENTS = {  # one key for all heads, of 32 channels; of 20: registers that are not full
    "ragged": Case([(0, 70), (200, 5), (64, 1), (19, 2), (0, 1)], 16, NUM_HEADS, 1, 32),
    "odd": Case([(10, 40), (33, 1)], 3, NUM_HEADS, 1, 20),
}


@pytest.mark.parametrize("case", OVER_LATENTS)
@pytest.mark.parametrize("name", BACKENDS)
def test_values_that_are_a_part_of_keys(native: Library, name: str, case: str) -> None:
    if name.startswith("triton"):
        pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
    compare(BACKENDS[name](native), OVER_LATENTS[case], LATENT)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend(native: Library, name: str, spec: str) -> None:
    cases = list(CASES.values())
    if name.startswith("triton"):
        pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
        cases = cases[:1] if name.endswith("one lane") else cases[1:2]  # its interpreter is slow
    if name == "sdpa" and SPECS[spec].softcap:
        with pytest.raises(
            ValueError, match=r"sdpa cannot do this model's soft cap .* use 'triton'"
        ):
            SdpaAttention().for_layers(SPECS[spec])
        return
    for case in cases:
        compare(BACKENDS[name](native), case, SPECS[spec])


ANY_SPEC = st.builds(
    AttentionSpec,
    scale=st.sampled_from([None, 0.1, 1.0]),
    window=st.none() | st.integers(1, 300),
    chunk=st.none() | st.integers(1, 300),
    softcap=st.sampled_from([None, 0.5, 30.0]),
    sinks=st.booleans(),
    alibi=st.sampled_from([None, Alibi(), Alibi(2.0, 0.1)]),
)
ANY_CASE = st.builds(
    Case,
    lengths=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 150)), min_size=1, max_size=4),
    block_size=st.sampled_from([1, 3, 16]),
    num_heads=st.just(NUM_HEADS),
    num_kv_heads=st.sampled_from([1, 2, 3, 6]),
    head_dim=st.sampled_from([4, 20, 32]),
    seed=st.integers(0, 1000),
)


@given(case=ANY_CASE, spec=ANY_SPEC, threads=st.sampled_from([1, 2]))
@draws(8, 20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spec_in_any_batch(
    native: Library, case: Case, spec: AttentionSpec, threads: int
) -> None:
    torch.set_num_threads(threads)
    compare(BlockedAttention(), case, spec)
    compare(NativeAttention(native), case, spec)
    expected = by(ReferenceAttention(), case, spec, is_rounded=True)
    ours = by(NativeAttention(native), case, spec, torch.float16, is_rounded=True)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_textbook_by_hand() -> None:
    """One query over three keys, in so many words."""
    query, keys = torch.tensor([[[2.0]]]), torch.tensor([1.0, 3.0, -1.0]).view(3, 1, 1)
    values = torch.tensor([100.0, 10.0, 1.0]).view(3, 1, 1)
    spec = AttentionSpec(scale=0.5, window=2, softcap=2.0, sinks=True)
    second, third = 2 * math.tanh(3.0 / 2), 2 * math.tanh(-1.0 / 2)  # the first is out of sight
    total = math.exp(second) + math.exp(third) + math.exp(0.25)
    expected = (10 * math.exp(second) + math.exp(third)) / total
    output = attend(query, keys, values, spec, torch.tensor([0.25]))
    assert output.item() == pytest.approx(expected, rel=1e-6)


def test_alibi_by_hand() -> None:
    """The last query over three keys, two and one position before it and its own."""
    query, keys = torch.tensor([[[2.0]]]), torch.tensor([1.0, 3.0, -1.0]).view(3, 1, 1)
    values = torch.tensor([100.0, 10.0, 1.0]).view(3, 1, 1)
    scores = [math.exp(2.0 - 2 * 0.25), math.exp(6.0 - 0.25), math.exp(-2.0)]
    expected = (100 * scores[0] + 10 * scores[1] + scores[2]) / sum(scores)
    output = attend(query, keys, values, AttentionSpec(alibi=Alibi()), None, torch.tensor([0.25]))
    assert output.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_heads", [1, 2, 6, 8, 12, 71])
def test_slopes(num_heads: int) -> None:
    """Of any number of heads as transformers has them for BLOOM and MPT, of ranks each its own."""
    whole = alibi_slopes(Alibi(), num_heads, WHERE)
    mask = torch.ones(1, 2)
    bloom = build_alibi_tensor(mask, num_heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(whole, bloom, rtol=1e-5, atol=0)
    mpt = build_mpt_alibi_tensor(num_heads, 2)
    torch.testing.assert_close(whole, -mpt[:, 0, 0], rtol=1e-5, atol=0)
    if num_heads % 2 == 0:
        halves = [
            alibi_slopes(Alibi(), num_heads, replace(WHERE, ranks=Alone(rank, 2)))
            for rank in (0, 1)
        ]
        assert torch.equal(torch.cat(halves), whole)


@pytest.mark.parametrize("name", [*BACKENDS, "reference"])
def test_blocks_before_the_window_are_not_touched(native: Library, name: str) -> None:
    """They may be others' by now, and anything: down to the block that has the first key seen."""
    if name.startswith("triton"):
        pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
    backend = (BACKENDS | {"reference": lambda _: ReferenceAttention()})[name](native)
    case, window = Case([(640, 1), (300, 30), (99, 1), (115, 1)], 16, NUM_HEADS, 2, 16), 100
    g = torch.Generator().manual_seed(0)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g) for _ in range(2))
    query = torch.randn(len(batch.positions), NUM_HEADS, 16, generator=g)
    backend = backend.for_layers(AttentionSpec(window=window))
    plan = backend.plan(batch, cache_of(keys, values))
    expected = backend.forward(query, keys, values, plan)
    assert expected.isfinite().all()
    for table, (past, _) in zip(batch.block_table, case.lengths, strict=True):
        behind = table[: max(0, past - window + 1) // 16].long()
        keys[behind] = values[behind] = torch.nan
    assert torch.equal(backend.forward(query, keys, values, plan), expected)


@pytest.mark.parametrize("field", ["scale", "window", "softcap"])
def test_nothing_below_zero(field: str) -> None:
    with pytest.raises(ValueError, match=f"'{field}' must be above 0, or None for none, got 0"):
        AttentionSpec(**{field: 0})
