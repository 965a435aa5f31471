"""Rotary positions: what a rotation must do, and the scalings' frequencies."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.model.tiny import CPU, LLAMA, change, random_model
from thirdeye.model.config import RopeConfig, RopeScaling
from thirdeye.model.parts.rope import NoRope, Rope, inverse_frequencies
from thirdeye.model.placement import Placement

FP32 = Placement(torch.float32, CPU)
CONTEXT = 131072
LONG = tuple(1.0 + i for i in range(32))
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
LLAMA3 = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def rope(dim: int = 8, scaling: RopeScaling | None = None) -> Rope:
    return Rope(RopeConfig(10_000.0, dim, scaling), 128, FP32)


def test_position_zero_stays() -> None:
    """All hands start at twelve."""
    x = torch.randn(1, 3, 8)
    assert torch.equal(rope().at(torch.tensor([0]))(x), x)


def test_lengths_are_kept() -> None:
    """A rotation changes no vector's length."""
    x = torch.randn(5, 3, 8)
    turned = rope().at(torch.tensor([1, 7, 50, 3, 127]))(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_scores_depend_on_distance_alone() -> None:
    """The reason for it all: q at m and k at n score alike wherever the pair stands."""
    q, k = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    scores = [
        (rope().at(torch.tensor([m]))(q) * rope().at(torch.tensor([m - 5]))(k)).sum()
        for m in (5, 6, 40, 127)
    ]
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(4), atol=1e-4, rtol=1e-4)


def test_channels_beyond_dim_stay() -> None:
    """Partial rotary: only the first `dim` channels of a head are turned."""
    x = torch.randn(4, 2, 12)
    positions = torch.tensor([3, 1, 4, 15])
    turned = rope(dim=8).at(positions)(x)
    assert torch.equal(turned[..., 8:], x[..., 8:])
    assert torch.equal(turned[..., :8], rope(dim=8).at(positions)(x[..., :8]))


def test_no_rope_changes_nothing() -> None:
    """Models with learned positions leave their heads alone."""
    x = torch.randn(2, 2, 8)
    assert NoRope(FP32).at(torch.tensor([3, 9]))(x) is x


@pytest.mark.parametrize(
    ("scaling", "parameters"),
    [
        (RopeScaling("linear", 4.0), {"rope_type": "linear", "factor": 4.0}),
        (
            LLAMA3,
            {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        (
            RopeScaling("llama3", 16.0, 1.0, 1.0, 8192),
            {
                "rope_type": "llama3",
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        (
            RopeScaling("yarn", 16.0, original_max_position_embeddings=8192),
            {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 8192},
        ),
        (
            RopeScaling(
                "yarn",
                32.0,
                original_max_position_embeddings=4096,
                beta_fast=24.0,
                beta_slow=2.0,
                is_truncated=False,
            ),
            {
                "rope_type": "yarn",
                "factor": 32.0,
                "original_max_position_embeddings": 4096,
                "beta_fast": 24.0,
                "beta_slow": 2.0,
                "truncate": False,
            },
        ),
        (RopeScaling("dynamic", 4.0, original_max_position_embeddings=65536), DYNAMIC),
        (
            RopeScaling("proportional", 2.0, num_pairs=9),
            {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.3},
        ),
        (
            RopeScaling(
                "longrope",
                32.0,
                original_max_position_embeddings=4096,
                short_factors=(0.5,) * 32,
                long_factors=LONG,
            ),
            {
                "rope_type": "longrope",
                "original_max_position_embeddings": 4096,
                "short_factor": [0.5] * 32,
                "long_factor": list(LONG),
            },
        ),
    ],
)
def test_scaled_frequencies_equal_transformers(
    scaling: RopeScaling, parameters: dict[str, Any]
) -> None:
    """At Llama 3.2's real sizes: all three of its bands are in use there."""
    hf = LlamaConfig(
        hidden_size=2048,
        num_attention_heads=32,
        head_dim=64,
        max_position_embeddings=CONTEXT // 2 if parameters is DYNAMIC else CONTEXT,
        rope_parameters={"rope_theta": 500_000.0, **parameters},
    )
    theirs, _ = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](hf, CPU, seq_len=CONTEXT)
    ours = inverse_frequencies(RopeConfig(500_000.0, 64, scaling), CONTEXT)
    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-6)


def test_llama3_has_three_bands() -> None:
    """Fast hands keep their pace, slow ones are `factor` times slower, some are between."""
    plain = inverse_frequencies(RopeConfig(500_000.0, 64), 128)
    ratio = plain / inverse_frequencies(RopeConfig(500_000.0, 64, LLAMA3), 128)
    assert (ratio[:5] == 1).all()
    torch.testing.assert_close(ratio[-5:], torch.full((5,), 32.0))
    assert ((ratio > 1.01) & (ratio < 31.9)).any()


def test_short_contexts_have_factors_of_their_own() -> None:
    """LongRoPE's choice is the server's context's, whatever the text."""
    scaling = RopeScaling(
        "longrope",
        32.0,
        original_max_position_embeddings=4096,
        short_factors=(0.5,) * 32,
        long_factors=LONG,
    )
    config = RopeConfig(1e4, 64, scaling)
    plain = inverse_frequencies(RopeConfig(1e4, 64), 4096)
    torch.testing.assert_close(inverse_frequencies(config, 4096), plain * 2)
    torch.testing.assert_close(inverse_frequencies(config, 4097), plain / torch.tensor(LONG))


def test_the_served_context_chooses() -> None:
    """A model that is made for long texts, and asked for short ones alone."""
    scaling = RopeScaling(
        "longrope",
        4.0,
        original_max_position_embeddings=32,
        short_factors=(1.0,) * 4,
        long_factors=LONG[:4],
    )
    config = RopeConfig(1e4, 8, scaling)
    short, long = Rope(config, 128, FP32, context=32), Rope(config, 128, FP32)
    plain, everywhere = Rope(RopeConfig(1e4, 8), 128, FP32), torch.arange(128)
    assert torch.equal(short.at(everywhere).cos, plain.at(everywhere).cos)
    assert not torch.equal(short.at(everywhere).cos, long.at(everywhere).cos)


def test_unknown_scaling_is_named() -> None:
    """A checkpoint with a scaling we do not have must not run with wrong positions."""
    config = change(LLAMA, rope=RopeConfig(1e4, 8, RopeScaling("spiral", 4.0)))
    with pytest.raises(ValueError, match=r"'spiral' is not supported: use one of linear"):
        random_model(config)
