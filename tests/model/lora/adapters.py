"""Random adapters, and the plain twin: a model whose weights have B A added to them."""

import torch

from tests.model.tiny import unfinished_model
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import LoraFactors, adaptable
from thirdeye.model.transformer import Transformer


def random_factors(
    config: ModelConfig, seed: int, rank: int = 3, size: float = 0.2
) -> list[LoraFactors]:
    """Of every layer that can have some, each part of a merged one by itself; ranks differ."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name, part in adaptable(config).items():
        weight = part.own()["weight"]
        for i, rows in enumerate(weight.parts or [None]):
            a = torch.randn(rank + i, part.in_features, generator=generator) * size
            b = torch.randn(weight.shape(rows)[0], rank + i, generator=generator) * size
            found.append(LoraFactors(name, rows, a, b))
    return found


def merged_model(config: ModelConfig, factors: list[LoraFactors], **how: object) -> Transformer:
    """`random_model` of the same config, with the products in its weights."""
    model = unfinished_model(config, **how)  # type: ignore[arg-type]  # as it takes them
    for one in factors:
        weight = adaptable(config)[one.layer].own()["weight"]
        model.get_parameter(f"{one.layer}.weight")[weight.own_rows(one.part, 0, 1)] += one.b @ one.a
    model.finish()
    return model
