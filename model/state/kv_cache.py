"""The KV cache: keys and values of all tokens so far, in blocks that any sequence may own.

A sequence's tokens need not lie side by side: its block table lists its blocks in order, as a page
table lists pages (Kwon et al. 2023, "PagedAttention"). Who owns which block is the engine's
business; here a block is a number.
"""

from typing import Any

import torch
from torch import Tensor

from thirdeye.model.config import ModelConfig
from thirdeye.model.state.kv_groups import KVGroups, one_group, room
from thirdeye.model.state.state_cache import StateCache
from thirdeye.model.state.zeros import zeros


class KVCache:
    """`keys` and `values`, each of a layer [num_blocks, block_size, num_kv_heads, head_dim].

    The layers are those that have any, and may differ in their heads; what the others keep is in
    `states`. Values may be a part of the keys (`ModelConfig.value_starts`): the last channels.
    Layers of different `groups` share memory, place by place: of those that have a block all are of
    one group. A place has the shape of its largest layers; smaller ones see several blocks in one.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        num_states: int = 0,
        groups: KVGroups | None = None,
    ) -> None:
        """`groups`: None for one, of all layers."""
        self.groups = groups or one_group(config)
        self.num_blocks, self.block_size = num_blocks, block_size
        self.states = StateCache(config, num_states, device)
        self.value_starts, self._shapes = config.value_starts, config.kv_shapes
        own = [self._largest_at(place) for place in range(self.groups.num_places)]
        shapes = [(num_blocks, block_size, *self._shapes[layer]) for layer in own]
        self.keys = tuple(zeros(shape, dtype, device) for shape in shapes)
        starts = [self.value_starts[layer] for layer in own]
        self.values = tuple(
            zeros(tuple(keys.shape), dtype, device) if start is None else keys[..., start:]
            for keys, start in zip(self.keys, starts, strict=True)
        )

    def _largest_at(self, place: int) -> int:
        """One of the layers that fill a place alone, of this one if there is any."""
        alone = [n for n, view in enumerate(self.groups.view_of) if view.num_parts == 1]
        return next((n for n in alone if self.groups.place_of[n] == place), alone[0])

    def layer(self, index: int) -> tuple[Any, Any]:
        """One layer's (keys, values), each [num_blocks, block_size, num_kv_heads, head_dim].

        Tensors, unless a cache keeps them another way, for backends that read it: `kv_fp8.py`,
        `kv_int8.py`.
        """
        place = self.groups.place_of[index]
        return self.seen(index, self.keys[place]), self.seen(index, self.values[place])

    def seen(self, layer: int, cache: Tensor) -> Tensor:
        """A place [num_blocks, ...] as a layer sees it."""
        if self.groups.view_of[layer].num_parts == 1:
            return cache
        return cache.view(-1, self.block_size, *self._shapes[layer])

    def kept(self, layer: int, caches: tuple[Any, Any], new: tuple[Tensor, Tensor]) -> list[Any]:
        """Keys, and values if they are no part of these: where, and what is written."""
        both = list(zip(caches, new, strict=True))
        return both if self.value_starts[layer] is None else both[:1]

    def beside_vectors(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """A number for each key of each layer, and one for each value. Layers that share memory
        share these, if a block of theirs has as many vectors."""
        made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        layers = zip(self.groups.place_of, self.groups.view_of, self._shapes, strict=True)
        kinds = [(place, view.num_parts, heads) for place, view, (heads, _) in layers]
        for (place, num_parts, heads), start in zip(kinds, self.value_starts, strict=True):
            shape = (self.num_blocks * num_parts, self.block_size, heads)
            if (place, num_parts * heads) not in made:
                of_keys = zeros(shape, dtype, device)
                of_values = of_keys if start is not None else zeros(shape, dtype, device)
                made[place, num_parts * heads] = of_keys, of_values
        pairs = [
            [one.view(-1, self.block_size, heads) for one in made[place, num_parts * heads]]
            for place, num_parts, heads in kinds
        ]
        return tuple(keys for keys, _ in pairs), tuple(values for _, values in pairs)

    def write(self, layer: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:
        """Put the step's key and value [T, num_kv_heads, head_dim] into one layer's slots [T]."""
        for cache, new in self.kept(layer, self.layer(layer), (key, value)):
            slots = cache.flatten(0, 1)  # [num_blocks * block_size, num_kv_heads, head_dim]
            slots.index_copy_(0, slot_mapping, new.to(cache.dtype))


def kv_bytes_per_block(
    config: ModelConfig, block_size: int, dtype: torch.dtype, groups: KVGroups | None = None
) -> int:
    """Memory of one block, keys and values of all its layers, or of a group's; in 8 bits with a
    scale a vector: for floats a byte, for integers a float32."""
    scale = 0 if dtype.itemsize > 1 else 4 if dtype == torch.int8 else 1
    numbers, vectors = room(config, groups or one_group(config))
    return block_size * (numbers * dtype.itemsize + vectors * scale)
