"""How many parameters a model has and where they are, from its config alone: no torch, no weights.

In the classic GPT a block's attention holds 4 hidden^2 weights (query, key, value, output) and its
MLP 8 hidden^2 (up and down, four times as wide): attention is one third. That is the project's
name. Models with grouped-query attention and gated MLPs have less.
"""

import math
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.block import AttentionPart
from thirdeye.model.declare.mlp import experts_part
from thirdeye.model.declare.parameter import Role
from thirdeye.model.declare.transformer import parameters, transformer_part


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Weights and biases of each role, over all layers. A tied head is counted as embedding."""

    embeddings: int
    positions: int
    query: int
    key: int
    value: int
    output: int
    state: int
    mlp: int
    router: int
    norms: int
    head: int

    @property
    def attention(self) -> int:
        return self.query + self.key + self.value + self.output

    @property
    def total(self) -> int:
        outside = self.embeddings + self.positions + self.norms + self.router + self.head
        return outside + self.attention + self.state + self.mlp

    @property
    def attention_share(self) -> float:
        """Attention's part of attention and MLP together."""
        return self.attention / (self.attention + self.mlp)

    @property
    def mlp_share(self) -> float:
        return 1 - self.attention_share


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    counts = dict.fromkeys(Role, 0)
    for parameter in parameters(config).values():
        for role, count in parameter.counts():
            counts[role] += count
    return ParameterCounts(**{role.value: count for role, count in counts.items()})


def head_matrices(config: ModelConfig) -> frozenset[str]:
    """The names of parameters that are a matrix for each head: they are not kept as linear layers
    are, but in the model's own dtype."""
    if not config.keeps_latents:
        return frozenset()
    return frozenset(
        f"blocks.{i}.attention.{name}.weight"
        for i, block in enumerate(transformer_part(config).blocks)
        if isinstance(block.attention, AttentionPart) and block.attention.value
        for name in ("qkv.key", "value")
    )


def num_in_head_matrices(config: ModelConfig) -> int:
    names = head_matrices(config)
    every = parameters(config) if names else {}
    return sum(math.prod(every[name].shape()) for name in names)


def idle_parameters(config: ModelConfig) -> int:
    """Those of experts that one token does not take."""
    if (spec := config.experts) is None:
        return 0
    part = experts_part(config, spec).experts[0]
    one = sum(count for _, parameter in part.walk() for _, count in parameter.counts())
    num_layers = len(config.mlp_layers) - len(config.dense_layers)
    return num_layers * (spec.num_experts - spec.num_chosen) * one
