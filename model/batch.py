"""The tensors of one step: what the engine hands to the transformer, as an argument.

A step is ragged. `T` tokens of `B` sequences lie end to end; sequence `b` owns the rows
`[query_start_loc[b], query_start_loc[b + 1])`. One token or a thousand, prompt or answer: there is
no prefill batch and no decode batch, only sequences that catch up by their number of tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from torch import Tensor

from thirdeye.model.state.kv_groups import BlockView


@dataclass(frozen=True, slots=True)
class GroupBlocks:
    """Where a group of layers has keys and values, see `model/state/kv_groups.py`."""

    slot_mapping: Tensor  # [T] int64
    block_table: Tensor  # [B, M] int32; of blocks before all windows nothing is said


@dataclass(frozen=True, slots=True)
class LookUp:
    """Tables in which a model looks up each token before its first layer, where that is all that it
    does then: a kernel that knows tokens and positions can copy these rows along."""

    vectors: Tensor  # [vocab_size, hidden_size], by token
    turns: Tensor  # [2, max_position_embeddings, dim / 2], by position: cos and sin


@dataclass(frozen=True, slots=True)
class LookedUp:
    """Of the T tokens of a step, their rows of these tables."""

    vectors: Tensor  # [T, hidden_size]
    turns: Tensor  # [2, T, 1, dim / 2]


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """`M` is the longest block table of the batch, padded with 0; `S` rows are asked for logits."""

    input_ids: Tensor  # [T] int64
    positions: Tensor  # [T] int64, position of each token in its own sequence
    slot_mapping: Tensor  # [T] int64, where its key and value go: block_id * block_size + offset
    query_start_loc: Tensor  # [B + 1] int32
    seq_lens: Tensor  # [B] int32, keys each sequence can see: its past and this step's tokens
    block_table: Tensor  # [B, M] int32
    logits_indices: Tensor  # [S] int64, rows of the T whose next-token logits are wanted
    num_singles: int = 0  # at least so many sequences in front have one token each
    # For layers that keep a state: (first of the T, how many, source, target), see `StateSpans`.
    state_spans: Tensor | None = None  # [P, 4] int32; None: sequence b's state is row b
    # Where the adapter of each token lies in the model's table, -1: it has none. None: no token.
    adapter_slots: Tensor | None = None  # [T] int32
    # What each layer is told of the tokens: made by the model of their ids, where a model has any.
    layer_inputs: Tensor | None = None  # [num_layers, T, size]
    # Of the token before each, what a head that guesses reads beside the token.
    hidden: Tensor | None = None  # [T, hidden_size]
    looked_up: LookedUp | None = None  # None: the model does it
    # What the first layer reads, where that is made apart from the rest. None: the model makes it.
    stream: Tensor | None = None  # [T, hidden_size]
    # Where those above say it of the first group of layers, these do of the others.
    other_groups: tuple[GroupBlocks, ...] = ()

    @property
    def asks_each(self) -> bool:
        """Whether each token's logits are wanted, of sequences that have one token each."""
        return self.num_singles == self.positions.shape[0] == self.logits_indices.shape[0]

    def seen_as(self, views: tuple[BlockView, ...], block_size: int) -> "ForwardBatch":
        """The same where layers see blocks in these ways: a group for each of them."""
        if all(view == BlockView(group) for group, view in enumerate(views)):
            return self
        own = [self.slot_mapping, *[one.slot_mapping for one in self.other_groups]]
        tables = [self.block_table, *[one.block_table for one in self.other_groups]]
        first, *others = [
            _part_of(own[view.group], tables[view.group], view, block_size) for view in views
        ]
        return replace(
            self,
            slot_mapping=first.slot_mapping,
            block_table=first.block_table,
            other_groups=tuple(others),
        )

    def by_group(self) -> "tuple[ForwardBatch, ...]":
        """The same as each group of layers has it."""
        if not self.other_groups:
            return (self,)
        others = [
            replace(self, slot_mapping=own.slot_mapping, block_table=own.block_table)
            for own in self.other_groups
        ]
        return (self, *others)


def _part_of(slots: Tensor, table: Tensor, view: BlockView, block_size: int) -> GroupBlocks:
    """slots [T] and table [B, M] of blocks -> those of the blocks that are parts of them."""
    if view.num_parts == 1:
        return GroupBlocks(slots, table)
    before = slots // block_size * (view.num_parts - 1) + view.part  # blocks that come between
    return GroupBlocks(slots + before * block_size, table * view.num_parts + view.part)


@dataclass(frozen=True, slots=True)
class PlainStep:
    """A step as numbers: B sequences compute T tokens, one each or a few, and the logits of all are
    wanted, in a model with one group of layers; no token has an adapter, no layer a state."""

    token_ids: list[int]  # [T], sequence by sequence
    starts: list[int]  # [B], positions of their first tokens
    counts: list[int]  # [B], tokens of each
    tables: list[list[int]]  # blocks of each sequence, 0 for those before all windows
    block_size: int


def count_singles(num_tokens: Iterable[int]) -> int:
    """`num_singles` of sequences with so many tokens."""
    return len(list(takewhile(lambda count: count == 1, num_tokens)))
