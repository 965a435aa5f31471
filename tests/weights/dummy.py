"""Random weights for tests and benchmarks: what a freshly initialized model would hold.

Each parameter part is drawn from its own generator, seeded by the seed and its name, so the values
do not depend on the order in which a model asks, nor on how it fuses or shards.
"""

import zlib
from typing import TYPE_CHECKING

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.parameter import Fill
from thirdeye.model.declare.transformer import parameters
from thirdeye.weights.load import WeightSink

if TYPE_CHECKING:
    from torch import Tensor

STANDARD_DEVIATION = 0.02  # GPT-2's


def load_dummy_weights(config: ModelConfig, seed: int, model: WeightSink) -> None:
    """Fill `model` with N(0, 0.02) in float32; norm weights are 1 and biases 0. Imports torch."""
    for name, part in sorted(model.expected(), key=str):
        model.load(name, part, dummy_tensor(config, seed, name, part))


def dummy_tensor(config: ModelConfig, seed: int, name: str, part: str | None) -> "Tensor":
    """One parameter part, `[out, in]` or `[out]`."""
    import torch

    parameter = parameters(config)[name]
    shape = parameter.shape(part)
    if parameter.fill is not Fill.NOISE:
        return torch.full(shape, 1.0 if parameter.fill is Fill.ONES else 0.0)
    # 32 bits: torch's CPU generator ignores the rest of a seed.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}/{part}".encode()))
    return torch.randn(shape, generator=generator) * STANDARD_DEVIATION
