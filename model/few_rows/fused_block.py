"""A layer on a GPU whose steps of few rows have a launch for each product and those of attention,
and none for norms, gates and additions.

    norm, qkv  |  rotate, keep, attend  |  merge  |  output, added to the stream
    norm, gate and up, activation                 |  down, added to the stream

With more rows it is the `Block` that it derives from. Which of this a layer can have is seen from
its parts, by halves: one with a part of another kind goes the plain way.
"""

from typing import Any

from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.block import BlockPart
from thirdeye.model.declare.mlp import GatedMLPPart
from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.few_rows.products import Parted, first_product, last_product
from thirdeye.model.linear.linear import Linear
from thirdeye.model.parts.blocks import Block, ClosingBlock, InformedBlock, block_kind
from thirdeye.model.parts.fused import FusedGatedMLP, FusedSelfAttention
from thirdeye.model.parts.layers import AddNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache


class FusedBlock(Block):
    """`Block`, with few rows in fewer launches."""

    def __init__(self, part: BlockPart, index: int, backend: Any, where: Placement) -> None:
        super().__init__(part, index, backend, where)
        self._attend_few, self._think_few = self._attend_plainly, self._think_plainly
        attention, mlp = self.attention, self.mlp
        if isinstance(attention, FusedSelfAttention) and attention.gate is None:
            project = None
            if isinstance(attention.qkv, Linear):
                project = first_product(self.attention_norm, attention.qkv, where)
            if project is not None:
                self._project = project
                self._output = last_product(attention.output, self.attention_post_norm, where)
                self._attend_few = self._attend_fused
        if isinstance(mlp, FusedGatedMLP) and isinstance(part.mlp, GatedMLPPart):
            neurons = first_product(self.mlp_norm, mlp.gate_up, where, part.mlp.activation)
            if neurons is not None:
                self._neurons = neurons
                self._down = last_product(mlp.down, self.mlp_post_norm, where)
                self._think_few = self._think_fused

    def pass_on(
        self,
        x: Tensor,
        added: Tensor | None,
        batch: ForwardBatch,
        rotate: Rotation,
        kv_cache: KVCache,
        plan: Any,
    ) -> Parted:
        if len(x) > FEW_ROWS or batch.adapter_slots is not None:  # these add to single products
            return super().pass_on(x, added, batch, rotate, kv_cache, plan)
        x, added = self._attend_few(x, added, batch, rotate, kv_cache, plan)
        return self._think_few(x, added)

    def _attend_fused(
        self,
        x: Tensor,
        added: Tensor | None,
        batch: ForwardBatch,
        rotate: Rotation,
        kv_cache: KVCache,
        plan: Any,
    ) -> Parted:
        attention = self.attention
        assert isinstance(attention, FusedSelfAttention)
        qkv, x = self._project(x, added)
        mixed = attention.mix_projected(qkv, batch, rotate, kv_cache, plan)
        return self._output(mixed.flatten(1), x)

    def _attend_plainly(
        self,
        x: Tensor,
        added: Tensor | None,
        batch: ForwardBatch,
        rotate: Rotation,
        kv_cache: KVCache,
        plan: Any,
    ) -> Parted:
        x, normed = add_norm(self.attention_norm, x, added)
        return x, self.attend(normed, batch, rotate, kv_cache, plan)

    def _think_fused(self, x: Tensor, added: Tensor | None) -> Parted:
        neurons, x = self._neurons(x, added)
        return self._down(neurons, x)

    def _think_plainly(self, x: Tensor, added: Tensor | None) -> Parted:
        x, normed = add_norm(self.mlp_norm, x, added)
        return x, self.think(normed)


def add_norm(norm: AddNorm, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
    """The stream x with what is to be added to it, and the norm of that."""
    return (x, norm(x)) if added is None else norm.add(x, added)


class FusedClosingBlock(ClosingBlock, FusedBlock):
    """`ClosingBlock`, likewise."""


class FusedInformedBlock(InformedBlock, FusedBlock):
    """`InformedBlock`, likewise."""


FUSED: dict[type[Block], type[Block]] = {
    Block: FusedBlock,
    ClosingBlock: FusedClosingBlock,
    InformedBlock: FusedInformedBlock,
}


def make_fused_block(part: BlockPart, index: int, backend: Any, where: Placement) -> Block:
    """On a GPU."""
    kind = block_kind(part)
    return FUSED.get(kind, kind)(part, index, backend, where)
