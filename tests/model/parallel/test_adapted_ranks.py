"""Adapters of a model over several ranks: each has a share of A or B, and all have the logits of
one rank, whichever parts of a merged layer the factors are of."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.model.lora.adapters import merged_model, random_factors
from tests.model.parallel.test_parallel import CLOSE, MODELS, on_ranks
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, make_cache, unfinished_model
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import LoraFactors, adaptable
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import ALONE, Ranks, rank_config
from thirdeye.model.transformer import Transformer

__all__ = ["on_ranks"]


def whole_factors(config: ModelConfig) -> list[LoraFactors]:
    """Of merged layers in one piece, as a file with fused projections has them."""
    generator = torch.Generator().manual_seed(3)
    return [
        LoraFactors(
            name,
            None,
            torch.randn(5, part.in_features, generator=generator) * 0.2,
            torch.randn(part.out_features, 5, generator=generator) * 0.2,
        )
        for name, part in adaptable(config).items()
    ]


def share_of(config: ModelConfig, ranks: Ranks, native: Library | None) -> Transformer:
    model = Transformer(
        config,
        NativeAttention(native) if native else BlockedAttention(),
        dtype=torch.float32,
        device=CPU,
        native=native,
        ranks=ranks,
        max_adapters=2,
    )
    for name, parameter in unfinished_model(config).named_parameters():
        model.load(name, None, parameter.detach())
    model.finish()
    assert model.adapters is not None
    model.adapters.load(1, random_factors(config, 1))
    model.adapters.load(2, whole_factors(config))
    return model


def logits(model: Transformer, slots: list[int] | None) -> list[Tensor]:
    """Of two prompts; the slots are of each."""
    rows = [Row(range(5, 12), 0, [3, 1]), Row(range(40, 49), 0, [2, 5, 6])]
    batch = make_batch(rows, 4, "all")
    if slots is not None:
        of_tokens = [slots[0]] * 7 + [slots[1]] * 9
        batch = replace(batch, adapter_slots=torch.tensor(of_tokens, dtype=torch.int32))
    cache = make_cache(rank_config(model.config, model.ranks.size))
    with torch.inference_mode():
        return list(model(batch, cache).split([7, 9]))


@pytest.mark.parametrize("how", ["torch", "native"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "latent"])
def test_two_ranks_have_the_logits_of_one(
    on_ranks, name: str, how: str, request: pytest.FixtureRequest
) -> None:
    torch.set_num_threads(1)
    native = request.getfixturevalue("native") if how == "native" else None
    config = MODELS[name]
    expected = logits(share_of(config, ALONE, native), [0, 1])
    for factors, own in zip(
        (random_factors(config, 1), whole_factors(config)), (0, 1), strict=True
    ):
        twin = logits(merged_model(config, factors), None)[own]
        torch.testing.assert_close(expected[own], twin, atol=1e-4, rtol=1e-4)
    for found in on_ranks(2, lambda ranks: logits(share_of(config, ranks, native), [0, 1])):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)
