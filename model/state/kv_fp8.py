"""A KV cache in 8-bit floats: half the bytes, so twice the tokens, read in half the time.

Each head's vector of each token has a scale of its own, found when it is written: nothing is
calibrated, no token's numbers depend on its company, and a large outlier is one vector's matter. A
scale is a power of 2 and takes a byte, its exponent (as in the MX formats of OCP 2023): floats lose
no precision by it, and scaling rounds nothing. Kernels turn what they read back into the query's
dtype: 8-bit tensor cores would sum long contexts too coarsely.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.rounded import FP8, LARGEST_FP8
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import KVGroups

FRACTION_BITS = 23  # of float32: the exponent lies above
FRACTION = (1 << FRACTION_BITS) - 1
BROKEN = 255  # the exponent of what is no number


@dataclass(frozen=True, slots=True)
class ScaledCache:
    """One layer's keys or values: a vector is its numbers times its scale."""

    numbers: Tensor  # [num_blocks, block_size, num_kv_heads, head_dim] float8
    exponents: Tensor  # [num_blocks, block_size, num_kv_heads] uint8: scale = 2 ** (it - 127)

    @property
    def shape(self) -> torch.Size:
        return self.numbers.shape

    def __getitem__(self, blocks: Tensor) -> Tensor:
        """Blocks by number, dequantized: [n, block_size, num_kv_heads, head_dim] float32."""
        return self.numbers[blocks].float() * power_of_2(self.exponents[blocks])[..., None]


class Fp8KVCache(KVCache):
    """`keys` and `values` as in `KVCache`, in float8, and exponents of one dimension less."""

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        device: torch.device,
        num_states: int = 0,
        groups: KVGroups | None = None,
    ) -> None:
        super().__init__(config, num_blocks, block_size, FP8, device, num_states, groups)
        self.key_exponents, self.value_exponents = self.beside_vectors(torch.uint8, device)

    def layer(self, index: int) -> tuple[ScaledCache, ScaledCache]:
        keys, values = super().layer(index)
        return (
            ScaledCache(keys, self.key_exponents[index]),
            ScaledCache(values, self.value_exponents[index]),
        )

    def write(self, layer: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:
        for cache, new in self.kept(layer, self.layer(layer), (key, value)):
            numbers, exponents = round_vectors(new)
            slots = cache.numbers.flatten(0, 1).view(torch.uint8)  # bytes: any torch copies those
            slots.index_copy_(0, slot_mapping, numbers.view(torch.uint8))
            cache.exponents.flatten(0, 1).index_copy_(0, slot_mapping, exponents)


def round_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """[..., n] -> (numbers [..., n] float8, exponents [...] uint8).

    The scale is the least that leaves no number above the largest there is. A vector with a NaN or
    an infinity becomes one of NaN.
    """
    wide = vectors.float()
    least = wide.abs().amax(-1).div(LARGEST_FP8)
    exponents = (least.view(torch.int32) + FRACTION >> FRACTION_BITS).clamp(1, BROKEN)  # rounded up
    exponents = torch.where(least.isfinite(), exponents, BROKEN)
    inverse = power_of_2((2 * 127 - exponents).clamp_min(0))
    return (wide * inverse[..., None]).to(FP8), exponents.to(torch.uint8)


def power_of_2(exponents: Tensor) -> Tensor:
    """2 ** (exponent - 127) in float32; 0 gives 0, 255 infinity."""
    return (exponents.int() << FRACTION_BITS).view(torch.float32)


def parts(cache: Tensor | ScaledCache) -> tuple[Tensor, Tensor | None]:
    """One layer's keys or values, and the exponents of their scales if they have any."""
    return (cache.numbers, cache.exponents) if isinstance(cache, ScaledCache) else (cache, None)
