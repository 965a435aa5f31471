"""The GPU's small kernels in triton's interpreter: each against its twin, then all in one model."""

import pytest
import torch

from tests.draws import also_at_night, count, is_night, pairwise
from tests.model.fused_twins import (
    HEAD_DIMS,
    HEAD_NORMS,
    KEPT_BY_ATTENTION,
    check_attends,
    check_gated_mlp,
    check_heads,
    check_norm,
    heads_config,
)
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LATENT, LLAMA, change, make_cache, random_model
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import Activation, ModelConfig, RopeConfig
from thirdeye.model.declare.block import mlp_part
from thirdeye.model.declare.head_layout import HeadLayout
from thirdeye.model.kernels.gated_mul import KINDS
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.parts.choose_parts import make_mlp
from thirdeye.model.parts.fused import FusedGatedMLP, FusedRMSNorm, FusedSelfAttention
from thirdeye.model.placement import Placement

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

DTYPES = [torch.float32, torch.bfloat16]
QWEN3 = change(LLAMA, qk_norm=True, tie_word_embeddings=True)
PARTIAL = change(LLAMA, rope=RopeConfig(theta=10_000.0, dim=4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 32), (5, 100), (2, 576), (1, 2050)])
def test_norm(rows: int, size: int, dtype: torch.dtype) -> None:
    """Sizes that are powers of 2 and that are not; the input itself is left alone."""
    check_norm(rows, size, Placement(dtype, CPU))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "wide"), [(1, 1), (3, 48), (2, 1024), (2, 1500)])
def test_gated_mul(rows: int, wide: int, dtype: torch.dtype) -> None:
    """Within a tile, exactly one, and over its edge."""
    check_gated_mlp(rows, wide, Placement(dtype, CPU))


@pytest.mark.parametrize("activation", sorted(KINDS))
def test_every_gated_activation(activation: Activation) -> None:
    """Those that a model may declare are one kernel, and what a block is made of has it."""
    check_gated_mlp(2, 60, Placement(torch.float32, CPU), activation)
    part = mlp_part(change(LLAMA, activation=activation))
    where = Placement(torch.float32, CPU, is_fused=True)
    assert type(make_mlp(part, where)) is FusedGatedMLP


@also_at_night
@pytest.mark.parametrize(("head_dim", "norms", "dtype"), pairwise(HEAD_DIMS, HEAD_NORMS, DTYPES))
def test_heads(head_dim: int, norms: str, dtype: torch.dtype) -> None:
    """Rotated wholly and in part, with and without a norm of each head, before and after. At a push
    the wider type is rotated in part, the narrower wholly."""
    in_part = max(2, head_dim // 4 * 2)
    one = {in_part} if dtype == torch.float32 else {head_dim}
    for dim in {head_dim, in_part} if is_night() else one:
        check_heads(heads_config(head_dim, dim, norms), Placement(dtype, CPU))


@pytest.mark.parametrize("norms", KEPT_BY_ATTENTION)
@pytest.mark.parametrize("programs", ["one", "several"])
def test_attention_keeps_new_keys(norms: str, programs: str) -> None:
    """By one program a sequence and by one a split, of which the last has the new key."""
    config = heads_config(20, 10, norms)
    num = 1 if programs == "one" else 64
    check_attends(config, torch.float32, num, Placement(torch.float32, CPU))


def test_attention_keeps_new_keys_in_8_bits() -> None:
    check_attends(heads_config(16, 16, "norm first"), FP8, 64, Placement(torch.float32, CPU))


def test_other_steps_and_layers_keep_theirs_first() -> None:
    """A chunk's tokens look at each other; what is not written as it is projected, or read by
    several groups of queries, and one order of sums for all."""
    backend = TritonAttention(num_multiprocessors=8)
    rows = [Row([1], 3, [0]), Row([2, 3], 0, [1])]
    single, mixed = (make_batch(rows[:n], 4) for n in (1, 2))
    usual, cache = HeadLayout(4, 2), make_cache(LLAMA)
    assert backend.keeps(backend.plan(single, cache), usual, 2)
    assert not backend.keeps(backend.plan(mixed, cache), usual, 2)
    plan = backend.plan(single, cache)
    assert not backend.keeps(plan, HeadLayout(4, 2, has_values=False), 2)
    assert not backend.keeps(plan, HeadLayout(4, 2, keeps_values=False), 2)
    assert not backend.keeps(plan, HeadLayout(4, 0), 2)
    alike = TritonAttention(num_multiprocessors=8, is_deterministic=True)
    assert not alike.keeps(plan, usual, 2)
    assert not backend.for_layers(LATENT.attention_of(0)).keeps(plan, usual, 2)


@also_at_night
@pytest.mark.parametrize(
    "config", [LLAMA, GPT2, QWEN3, PARTIAL], ids=["llama", "gpt2", "qwen3", "partial"]
)
def test_whole_model(config: ModelConfig) -> None:
    """A prompt, then a chunk beside a single token: logits as by the plain path, to 1e-4."""
    config = change(config, num_hidden_layers=count(1, 2))
    plain = random_model(config)
    backend: AttentionBackend = TritonAttention(num_multiprocessors=8)
    fused = random_model(config, backend, is_fused=True)
    caches = [make_cache(config), make_cache(config)]
    steps = [
        [Row([5, 17, 3, 80, 2, 9, 11], 0, [3, 9])],
        [Row([40, 41, 42], 7, [3, 9, 1]), Row([8], 0, [4])],
        [Row([43], 10, [3, 9, 1]), Row([60], 1, [4])],
    ]
    for rows in steps:
        batch = make_batch(rows, 4, "all")
        expected, logits = plain(batch, caches[0]), fused(batch, caches[1])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_fused_parts_are_chosen_where_asked_for() -> None:
    """A model that quietly fell back to the plain parts would pass every test of equality."""
    kinds = {type(m) for m in random_model(LLAMA, is_fused=True).modules()}
    assert {FusedRMSNorm, FusedSelfAttention, FusedGatedMLP} <= kinds
    kinds = {type(m) for m in random_model(LLAMA).modules()}
    assert kinds.isdisjoint({FusedRMSNorm, FusedSelfAttention, FusedGatedMLP})


def test_auto_attention_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """triton where it is installed, torch's own kernel where it is not."""

    class Card:
        multi_processor_count = 132

    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    assert isinstance(choose_attention("auto", cuda), TritonAttention)
    monkeypatch.setattr("thirdeye.model.placement.find_spec", lambda name: None)
    assert isinstance(choose_attention("auto", cuda), SdpaAttention)
    with pytest.raises(ValueError, match="needs a GPU"):
        choose_attention("triton", cuda)


def test_triton_is_refused_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="'--attention' triton needs a GPU"):
        choose_attention("triton", CPU)
