"""One layer of a transformer: attention and MLP around the residual stream.

Where they read the stream and what becomes of their output before it is added back are parts of
their own, chosen in the constructor; the classes differ in who reads what.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import BlockPart
from thirdeye.model.parts.choose_parts import (
    make_attention,
    make_layer_scale,
    make_mlp,
    make_post_norm,
    make_pre_norm,
    make_state,
)
from thirdeye.model.parts.layer_inputs import make_layer_input
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.parts.self_attention import SelfAttention
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache

Branch = Callable[[Tensor], Tensor]  # a normed copy of the stream -> what is added to it


class Block(nn.Module):
    """Attention, then MLP, each reading a normed copy of the stream and adding to it.

    `around` is where the stream goes, and takes what stands beside it: `forward` gives it this
    block's attention and MLP, and whoever looks inside the same with something in between.
    """

    def __init__(self, part: BlockPart, index: int, backend: Any, where: Placement) -> None:
        """`index`: of what it keeps among the layers that keep the same, keys and values or states;
        `backend`: how it attends, if it does."""
        super().__init__()
        scale = part.residual_scale
        self.attention_norm = make_pre_norm(part.attention_norm, where)
        self.attention = make_attention(part.attention, index, backend, where)
        self.attention_post_norm = make_post_norm(part.attention_post_norm, scale, where)
        self.mlp_norm = make_pre_norm(part.mlp_norm, where)
        self.mlp = make_mlp(part.mlp, where)
        self.mlp_post_norm = make_post_norm(part.mlp_post_norm, scale, where)

    @property
    def self_attention(self) -> SelfAttention:
        """Of a layer that attends; others keep a state."""
        assert isinstance(self.attention, SelfAttention), "it keeps a state"
        return self.attention

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""

        def attend(normed: Tensor) -> Tensor:
            return self.attend(normed, batch, rotate, kv_cache, plan)

        return self.around(x, attend, self.think)

    def attend(
        self, normed: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        """What attention adds to the stream, of which it reads a normed copy [T, hidden_size]."""
        attended = self.attention(normed, batch, rotate, kv_cache, plan)
        added: Tensor = self.attention_post_norm(attended)
        return added

    def think(self, normed: Tensor) -> Tensor:
        """What the MLP adds to the stream, of which it reads a normed copy [T, hidden_size]."""
        added: Tensor = self.mlp_post_norm(self.mlp(normed))
        return added

    def around(self, x: Tensor, attend: Branch, think: Branch) -> Tensor:
        """x [T, hidden_size] with what both branches add to it."""
        x, added = self.between(x, None, attend, think)
        return x if added is None else x + added

    def pass_on(
        self,
        x: Tensor,
        added: Tensor | None,
        batch: ForwardBatch,
        rotate: Rotation,
        kv_cache: KVCache,
        plan: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As `forward`, for a stream that comes in two parts, [T, hidden_size] each: what the block
        before adds is added in the norm that reads the sum, and so is what this one adds."""

        def attend(normed: Tensor) -> Tensor:
            return self.attend(normed, batch, rotate, kv_cache, plan)

        normed = None
        if added is not None:
            x, normed = self.attention_norm.add(x, added)
        return self.between(x, normed, attend, self.think)

    def close(self, x: Tensor, batch: ForwardBatch) -> Tensor:  # noqa: ARG002
        """x [T, hidden_size], with what both branches add -> what leaves the layer."""
        return x

    def between(
        self, x: Tensor, normed: Tensor | None, attend: Branch, think: Branch
    ) -> tuple[Tensor, Tensor | None]:
        """The stream x, and its norm if that is there -> x with what the first branch adds, and
        what is still to be added."""
        x, normed = self.mlp_norm.add(x, attend(self._normed(x, normed)))
        return x, think(normed)

    def _normed(self, x: Tensor, normed: Tensor | None) -> Tensor:
        if normed is not None:
            return normed
        made: Tensor = self.attention_norm(x)
        return made


class ClosingBlock(Block):
    """Something is done to the stream behind it, so that nothing is left to be added (Gemma 4)."""

    def __init__(self, part: BlockPart, index: int, backend: Any, where: Placement) -> None:
        super().__init__(part, index, backend, where)
        self.layer_scale = make_layer_scale(part.layer_scale, where)

    def forward(
        self, x: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        return self.close(super().forward(x, batch, rotate, kv_cache, plan), batch)

    def pass_on(
        self,
        x: Tensor,
        added: Tensor | None,
        batch: ForwardBatch,
        rotate: Rotation,
        kv_cache: KVCache,
        plan: Any,
    ) -> tuple[Tensor, Tensor | None]:
        x, added = super().pass_on(x, added, batch, rotate, kv_cache, plan)
        return self.close(x if added is None else x + added, batch), None

    def close(self, x: Tensor, batch: ForwardBatch) -> Tensor:  # noqa: ARG002
        scaled: Tensor = self.layer_scale(x)
        return scaled


class InformedBlock(ClosingBlock):
    """Before that it adds what it makes of its own input of each token (Gemma 4's small models)."""

    def __init__(self, part: BlockPart, index: int, backend: Any, where: Placement) -> None:
        super().__init__(part, index, backend, where)
        assert part.layer_input is not None
        self.layer_input = make_layer_input(part.layer_input, where)

    def close(self, x: Tensor, batch: ForwardBatch) -> Tensor:
        return super().close(x + self.layer_input(x, batch.layer_inputs), batch)


class ParallelBlock(Block):
    """Both read the stream as it comes in, each by its own norm (GPT-NeoX)."""

    def between(
        self, x: Tensor, normed: Tensor | None, attend: Branch, think: Branch
    ) -> tuple[Tensor, Tensor | None]:
        attended, thought = attend(self._normed(x, normed)), think(self.mlp_norm(x))
        return x + attended, thought


class SharedNormBlock(Block):
    """Both read one normed copy of the stream as it comes in (Cohere, Phi-2)."""

    def between(
        self, x: Tensor, normed: Tensor | None, attend: Branch, think: Branch
    ) -> tuple[Tensor, Tensor | None]:
        normed = self._normed(x, normed)
        attended, thought = attend(normed), think(normed)
        return x + attended, thought


class LoneMixerBlock(Block):
    """No MLP (Nemotron-H)."""

    def between(
        self,
        x: Tensor,
        normed: Tensor | None,
        attend: Branch,
        think: Branch,  # noqa: ARG002  # there is nothing that could
    ) -> tuple[Tensor, Tensor | None]:
        return x, attend(self._normed(x, normed))


class LoneMLPBlock(Block):
    """An MLP, or experts, and nothing else (Nemotron-H): by the first norm."""

    def between(
        self,
        x: Tensor,
        normed: Tensor | None,
        attend: Branch,  # noqa: ARG002  # there is nothing that could
        think: Branch,
    ) -> tuple[Tensor, Tensor | None]:
        return x, think(self._normed(x, normed))


class BesideBlock(Block):
    """Attention and a layer that keeps a state read one normed copy (Falcon-H1); a plan is that of
    either."""

    def __init__(self, part: BlockPart, index: int, backend: Any, where: Placement) -> None:
        super().__init__(part, index, backend, where)
        assert part.state is not None
        self.state = make_state(part.state, index, where)

    def attend(
        self, normed: Tensor, batch: ForwardBatch, rotate: Rotation, kv_cache: KVCache, plan: Any
    ) -> Tensor:
        attention, states = plan
        attended = super().attend(normed, batch, rotate, kv_cache, attention)
        kept: Tensor = self.state(normed, batch, rotate, kv_cache, states)
        return attended + kept


class PostNormBlock(Block):
    """Both read the stream as it is, and it is normed after each addition (Vaswani et al. 2017;
    OPT 350M). What a layer leaves behind is then not the sum of what came in and was added."""

    def between(
        self,
        x: Tensor,
        normed: Tensor | None,  # noqa: ARG002  # x is one itself
        attend: Branch,
        think: Branch,
    ) -> tuple[Tensor, Tensor | None]:
        """Nothing is left to be added: the next block reads the norm."""
        _, x = self.attention_norm.add(x, attend(x))
        _, x = self.mlp_norm.add(x, think(x))
        return x, None


def block_kind(part: BlockPart) -> type[Block]:
    kind = Block if part.layer_scale is None else ClosingBlock
    if part.layer_input is not None:
        kind = InformedBlock
    if part.is_parallel:
        kind = ParallelBlock if part.mlp_norm else SharedNormBlock
    if part.norms_stream:
        kind = PostNormBlock
    if part.state is not None:
        kind = BesideBlock
    if part.mlp is None:
        kind = LoneMixerBlock
    if part.attention is None:
        kind = LoneMLPBlock
    return kind


def make_block(part: BlockPart, index: int, backend: Any, where: Placement) -> Block:
    return block_kind(part)(part, index, backend, where)
