"""One layer of a transformer: attention and MLP around the residual stream.

Where they read the stream and what becomes of their output before it is added back are parts of
their own, chosen in the constructor; the classes differ in who reads what.
"""

from typing import Any

from torch import Tensor, nn

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import BlockPart
from thirdeye.model.parts.choose_parts import (
    make_attention,
    make_mlp,
    make_post_norm,
    make_pre_norm,
)
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class Block(nn.Module):
    """Attention, then MLP, each reading a normed copy of the stream and adding to it."""

    def __init__(
        self, part: BlockPart, layer: int, backend: AttentionBackend, where: Placement
    ) -> None:
        super().__init__()
        scale = part.residual_scale
        self.attention_norm = make_pre_norm(part.attention_norm, where)
        self.attention = make_attention(part.attention, layer, backend, where)
        self.attention_post_norm = make_post_norm(part.attention_post_norm, scale, where)
        self.mlp_norm = make_pre_norm(part.mlp_norm, where)
        self.mlp = make_mlp(part.mlp, where)
        self.mlp_post_norm = make_post_norm(part.mlp_post_norm, scale, where)

    @property
    def attention_branch(self) -> nn.Module:
        """The module whose output is what attention adds to the stream; read by the probe."""
        return self.attention_post_norm

    @property
    def mlp_branch(self) -> nn.Module:
        """The same of the MLP."""
        return self.mlp_post_norm

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        attended = self.attention(self.attention_norm(x), batch, rotate, kv_cache, plan)
        x, normed = self.mlp_norm.add(x, self.attention_post_norm(attended))
        return x + self.mlp_post_norm(self.mlp(normed))


class ParallelBlock(Block):
    """Both read the stream as it comes in, each by its own norm (GPT-NeoX)."""

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x), batch, rotate, kv_cache, plan)
        thought = self.mlp(self.mlp_norm(x))
        return x + self.attention_post_norm(attended) + self.mlp_post_norm(thought)


class SharedNormBlock(Block):
    """Both read one normed copy of the stream as it comes in (Cohere, Phi-2)."""

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        normed = self.attention_norm(x)
        attended = self.attention(normed, batch, rotate, kv_cache, plan)
        thought = self.mlp(normed)
        return x + self.attention_post_norm(attended) + self.mlp_post_norm(thought)


class PostNormBlock(Block):
    """Both read the stream as it is, and it is normed after each addition (Vaswani et al. 2017;
    OPT 350M). What a layer leaves behind is then not the sum of what came in and was added."""

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        attended = self.attention(x, batch, rotate, kv_cache, plan)
        _, x = self.attention_norm.add(x, self.attention_post_norm(attended))
        _, x = self.mlp_norm.add(x, self.mlp_post_norm(self.mlp(x)))
        return x


def make_block(part: BlockPart, layer: int, backend: AttentionBackend, where: Placement) -> Block:
    kind = Block
    if part.is_parallel:
        kind = ParallelBlock if part.mlp_norm else SharedNormBlock
    if part.norms_stream:
        kind = PostNormBlock
    return kind(part, layer, backend, where)
