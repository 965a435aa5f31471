"""A KV cache in 8-bit integers: half the bytes of fp16, so twice the tokens in the same memory.

Each head's vector of each token has a scale of its own, found when it is written: its largest
number over 127. Nothing is calibrated, and no token's numbers depend on its company.
`round_to_int8` and `Int8Vectors.__getitem__` are the textbook; the kernels in C
(`model/native/csrc/rope_kv.c`, `paged_attention.c`) write the same bytes and scales.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.config import ModelConfig
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import KVGroups

LARGEST = 127.0  # on either side of zero
SMALLEST = 1e-30  # a vector's largest number counts as this at least: zeros stay zeros


@dataclass(frozen=True, slots=True)
class Int8Vectors:
    """One layer's keys or values: a vector is its numbers times its scale."""

    numbers: Tensor  # [num_blocks, block_size, num_kv_heads, head_dim] int8
    scales: Tensor  # [num_blocks, block_size, num_kv_heads] float32

    @property
    def shape(self) -> torch.Size:
        return self.numbers.shape

    def __getitem__(self, blocks: Tensor) -> Tensor:
        """Blocks by number, dequantized: [n, block_size, num_kv_heads, head_dim] float32."""
        return self.numbers[blocks].float() * self.scales[blocks][..., None]


class Int8KVCache(KVCache):
    """`keys` and `values` as in `KVCache`, in int8, and scales of one dimension less."""

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        device: torch.device,
        num_states: int = 0,
        groups: KVGroups | None = None,
    ) -> None:
        super().__init__(config, num_blocks, block_size, torch.int8, device, num_states, groups)
        self.key_scales, self.value_scales = self.beside_vectors(torch.float32, device)

    def layer(self, index: int) -> tuple[Int8Vectors, Int8Vectors]:
        keys, values = super().layer(index)
        return (
            Int8Vectors(keys, self.key_scales[index]),
            Int8Vectors(values, self.value_scales[index]),
        )

    def write(self, layer: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:
        for cache, new in self.kept(layer, self.layer(layer), (key, value)):
            numbers, scales = round_to_int8(new)
            cache.numbers.flatten(0, 1).index_copy_(0, slot_mapping, numbers)
            cache.scales.flatten(0, 1).index_copy_(0, slot_mapping, scales)


def round_to_int8(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """[..., n] -> (numbers [..., n] int8, scales [...] float32).

    To the nearest, of two to the even one. A vector with a NaN or an infinity becomes one without
    any number.
    """
    wide = vectors.float()
    largest = wide.abs().amax(-1).clamp_min(SMALLEST)
    units = torch.full_like(largest, LARGEST).div(largest)  # a division, not times a reciprocal
    numbers = (wide * units[..., None]).round().nan_to_num(-LARGEST)
    return numbers.to(torch.int8), largest / LARGEST


def parts_of(cache: Tensor | Int8Vectors) -> tuple[Tensor, Tensor | None]:
    """One layer's keys or values, and their scales if they have any."""
    return (cache.numbers, cache.scales) if isinstance(cache, Int8Vectors) else (cache, None)
