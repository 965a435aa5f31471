"""What a low-rank adapter changes: y[rows] += B (A x), of some outputs of a linear layer.

Hu et al. 2021. A leads from the layer's inputs to a few numbers, its rank, and B from there to the
outputs. Adapters may change the linear layers of attention and of an MLP, as they are declared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.block import AttentionPart
from thirdeye.model.declare.latent import LatentPart
from thirdeye.model.declare.mlp import GatedMLPPart, MLPPart
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.declare.transformer import transformer_part

MAX_RANK = 256
MAX_PIECES = 3  # of one layer: those of query, key and value


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """Of a layer's rows that are `part`, or of all of them. Its scale is in B already."""

    layer: str  # "blocks.3.attention.qkv", as `adaptable` has it
    part: str | None
    a: Any  # Tensor [rank, in] float32
    b: Any  # Tensor [rows, rank] float32

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])


def _of_heads(name: str, part: LinearPart | LatentPart) -> dict[str, LinearPart]:
    """What leads from the stream to queries and keys. A head's matrices from a latent to its keys
    and values are not among them: queries are led through them."""
    if isinstance(part, LinearPart):
        return {name: part}
    found = {f"{name}.query": part.query, f"{name}.latent": part.latent}
    return found | ({f"{name}.query_down": part.query_down} if part.query_down else {})


@lru_cache(maxsize=4)
def adaptable(config: ModelConfig) -> Mapping[str, LinearPart]:
    """The layers that an adapter may change, by the module's name. Neither experts nor what keeps a
    state is among them, nor embeddings or the head."""
    found: dict[str, LinearPart] = {}
    for i, block in enumerate(transformer_part(config).blocks):
        if isinstance(block.attention, AttentionPart):
            found |= _of_heads(f"blocks.{i}.attention.qkv", block.attention.qkv)
            if block.attention.gate:
                found[f"blocks.{i}.attention.gate"] = block.attention.gate
            found[f"blocks.{i}.attention.output"] = block.attention.output
        if isinstance(block.mlp, GatedMLPPart):
            found[f"blocks.{i}.mlp.gate_up"] = block.mlp.gate_up
            found[f"blocks.{i}.mlp.down"] = block.mlp.down
        if isinstance(block.mlp, MLPPart):
            found[f"blocks.{i}.mlp.up"] = block.mlp.up
            found[f"blocks.{i}.mlp.down"] = block.mlp.down
    return MappingProxyType(found)
