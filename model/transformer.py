"""The transformer: a decoder that turns token ids into next-token logits.

    ids -> embed (tokens, positions) -> blocks -> final_norm -> head -> logits
                                          |
               x = x + attention(norm(x))   tokens look at earlier tokens
               x = x + mlp(norm(x))         each token thinks for itself

`x`, the residual stream, is one vector a token, [T, hidden_size]; every part reads it and adds to
it. GPT-2 and Llama differ only in parts, and every part is chosen in a constructor: no `forward`
asks what model it is. The model knows token ids and slots, not requests: which tokens make a step
is the engine's business.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch, LookUp, PlainStep
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.declare.transformer import parameters, transformer_part
from thirdeye.model.fast_path import FastPath
from thirdeye.model.few_rows.fused_block import make_fused_block
from thirdeye.model.layer_kinds import LayerKinds
from thirdeye.model.linear.choose_method import choose_head
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.loading.load_tensors import expected_tensors, load_tensor
from thirdeye.model.loading.widen import choose_widen
from thirdeye.model.lora.adapter_table import AdapterTable
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.parallel_linear import VocabParallelTiedLinear, make_linear
from thirdeye.model.parallel.shares import ALONE, Ranks, rank_config
from thirdeye.model.parts.blocks import Block, make_block
from thirdeye.model.parts.choose_parts import (
    make_embedding,
    make_logit_shape,
    make_norm,
    make_pre_norm,
    make_projection,
)
from thirdeye.model.parts.latent.head_linear import HeadLinear
from thirdeye.model.parts.layer_inputs import JoinHidden, LayerInputs
from thirdeye.model.parts.layers import Embedding, LearnedPositions, NoPositions
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.placement import Placement, can_fuse
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import BlockView
from thirdeye.model.taped import TapedSteps, tape_steps

TABLE = "embed_tokens.weight"
LAYER_TABLE = "layer_inputs.table.weight"  # large, and of each token one row is looked up


class Transformer(nn.Module):
    """Created empty: `load` every tensor of `expected()`, then `finish`, then `forward`."""

    def __init__(
        self,
        config: ModelConfig,
        attention: AttentionBackend,
        *,
        dtype: torch.dtype,
        device: torch.device,
        quantize: str = "none",
        is_fused: bool | None = None,
        native: Library | None = None,
        ranks: Ranks = ALONE,
        is_deterministic: bool = False,
        context: int | None = None,
        max_adapters: int = 0,
    ) -> None:
        """`is_fused`: with kernels of our own between the matrix products; None: on a GPU.
        `native`: those compiled for this CPU. `is_deterministic`: a token's bits shall not depend
        on its company; on a CPU they never do. `context`: the longest text that it will be asked
        for, by which some rotary positions are scaled; None: the longest that it is made for.
        `max_adapters`: as many low-rank adapters can be loaded at once.

        With other `ranks` this is one's share of the model: it takes the same tensors and the same
        batches as theirs, and gives the same logits.
        """
        super().__init__()
        where = Placement(
            dtype,
            device,
            quantize,
            can_fuse(device) if is_fused is None else is_fused,
            native=native,
            ranks=ranks,
            is_deterministic=is_deterministic,
        )
        own = rank_config(config, ranks.size)  # raises ValueError if it cannot be dealt out
        self.config, self.ranks = config, ranks
        self._widen = choose_widen(native)
        self.backend = attention
        self.layer_kinds = LayerKinds(own, attention, where, context)
        part = transformer_part(config)
        self.embed_tokens = make_embedding(part.embed_tokens, where)
        self.project_in = make_projection(part.project_in, where)
        self.embed_norm = make_norm(part.embed_norm, where) if part.embed_norm else nn.Identity()
        positions = part.embed_positions
        self.embed_positions = LearnedPositions(positions, where) if positions else NoPositions()
        inputs = part.layer_inputs
        self.layer_inputs = LayerInputs(inputs, where) if inputs else None
        self._informed = self._with_layer_inputs if inputs else without_layer_inputs
        self.join = JoinHidden(part.join, where) if part.join else None
        self._joined = self._with_hidden_states if part.join else tokens_alone
        make = make_fused_block if where.is_fused else make_block
        self.blocks = nn.ModuleList(
            make(block, config.index_of_its_kind(layer), backend, where)
            for layer, (block, backend) in enumerate(
                zip(part.blocks, self.layer_kinds.backends, strict=True)
            )
        )
        self.tape = FastPath("tape")
        walk = self._passing_on if where.is_fused else self._one_by_one
        self.adapters: AdapterTable | None = None
        if max_adapters:
            self.adapters = AdapterTable(config, max_adapters, where)
            self.adapters.adapt(self)
            walk = self.adapters.around(walk)
        self._through_blocks = walk
        self._begun = self._begin if part.join or inputs else as_it_is
        memory: list[Tensor] = []
        self._stream_of = tape_steps(self._make_stream, where, attention, self.tape, memory)
        self._raw_of = tape_steps(self._make_raw, where, attention, self.tape, memory)
        self.final_norm = make_pre_norm(part.final_norm, where)
        self.project_out = make_projection(part.project_out, where)
        method = choose_head(where)
        self.lm_head = (
            make_linear(part.lm_head, where, method=method)
            if part.lm_head
            else VocabParallelTiedLinear(self.embed_tokens.weight, where, method=method)
        )
        self._logit_shape = make_logit_shape(config.logit_scale, config.logit_softcap)

    def forward(self, batch: ForwardBatch, kv_cache: KVCache) -> Tensor:
        """Write the step's keys and values into `kv_cache`; return float32 logits [S, vocab_size].

        S rows only, those of `batch.logits_indices`: the head is the largest matrix. Token ids must
        be below `vocab_size`, positions below `max_position_embeddings`. The logits of a small step
        are good until the next call: it may write to the same memory (`model/taped.py`).
        """
        return self.logits_as_computed(batch, kv_cache).float()

    def logits_as_computed(self, batch: ForwardBatch, kv_cache: KVCache) -> Tensor:
        """As `forward`; in the dtype of the head's product, where nothing is done to them: whoever
        reads each but once saves writing them out in 32 bits."""
        raw: Tensor = self._raw_of(*self._planned(batch, kv_cache))
        if isinstance(self._logit_shape, nn.Identity):
            return raw
        logits: Tensor = self._logit_shape(raw.float())
        return logits

    def decoder(self, kv_cache: KVCache) -> Callable[[PlainStep], Tensor | None] | None:
        """What gives the logits [T, vocab_size] float32 of steps that decode, from their numbers,
        where a tape has a step's shape; None: there is nothing quicker than `forward` here. They
        are good until the next call."""
        steps, is_raw = self._raw_of, isinstance(self._logit_shape, nn.Identity)
        is_whole = kv_cache.groups.views == (BlockView(0),)
        if isinstance(steps, TapedSteps) and is_raw and is_whole:
            return partial(steps.replay_plain, kv_cache)
        return None

    def with_hidden(self, batch: ForwardBatch, kv_cache: KVCache) -> tuple[Tensor, Tensor]:
        """The same, and the final hidden states that the head reads: float32 [T, hidden_size], or
        as wide as embeddings that are narrower."""
        normed = self._normed(*as_pair(self._stream_of(*self._planned(batch, kv_cache))))
        asked = normed.index_select(0, batch.logits_indices)
        logits: Tensor = self._logit_shape(self.score(asked))
        return logits, self.project_out(normed).float()

    def _planned(
        self, batch: ForwardBatch, kv_cache: KVCache
    ) -> tuple[ForwardBatch, KVCache, tuple[Any, ...]]:
        """What a step is told: all that reads numbers out of tensors is done then."""
        batch = batch.seen_as(kv_cache.groups.views, kv_cache.block_size)
        return self._begun(batch), kv_cache, self.layer_kinds.plans(batch, kv_cache)

    def _make_raw(self, batch: ForwardBatch, kv_cache: KVCache, plans: tuple[Any, ...]) -> Tensor:
        """The head's product [S, vocab_size]."""
        x, added = as_pair(self._make_stream(batch, kv_cache, plans))
        if not batch.asks_each:
            x = x.index_select(0, batch.logits_indices)
            added = None if added is None else added.index_select(0, batch.logits_indices)
        raw: Tensor = self.lm_head(_through(self.project_out, self._normed(x, added)))
        return raw

    def _make_stream(
        self, batch: ForwardBatch, kv_cache: KVCache, plans: tuple[Any, ...]
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """The residual stream behind the last block [T, hidden_size], or it and what is still to be
        added to it."""
        begun = batch if batch.stream is not None else self._begin(batch)
        assert begun.stream is not None
        rotations = self.layer_kinds.rotations(batch)
        return self._through_blocks(begun.stream, begun, rotations, kv_cache, plans)

    def _begin(self, batch: ForwardBatch) -> ForwardBatch:
        """With what the first layer reads, and what each layer is told."""
        x = self._joined(batch, self._embedded(batch))
        return replace(self._informed(batch, x), stream=x)

    def _embedded(self, batch: ForwardBatch) -> Tensor:
        if batch.looked_up is not None:
            return batch.looked_up.vectors
        return self.embed(batch.input_ids, batch.positions)

    def _normed(self, x: Tensor, added: Tensor | None) -> Tensor:
        """The stream x with what is to be added to it, as the head reads it."""
        normed: Tensor = self.final_norm(x) if added is None else self.final_norm.add(x, added)[1]
        return normed

    def look_up(self) -> LookUp | None:
        """In which tables steps may look up their tokens for this model; None: in none."""
        turns = self.layer_kinds.turns
        changes = (self.project_in, self.embed_norm)
        is_plain = (
            type(self.embed_tokens) is Embedding
            and all(isinstance(change, nn.Identity) for change in changes)
            and isinstance(self.embed_positions, NoPositions)
        )
        if turns is None or not is_plain or self.join is not None:
            return None
        return LookUp(self.embed_tokens.weight, turns)

    def _with_hidden_states(self, batch: ForwardBatch, x: Tensor) -> Tensor:
        assert self.join is not None
        assert batch.hidden is not None, "a head that guesses is asked without a model"
        stream: Tensor = self.join(x, batch.hidden)
        return stream

    def _with_layer_inputs(self, batch: ForwardBatch, x: Tensor) -> ForwardBatch:
        return replace(batch, layer_inputs=self.layer_inputs_of(batch.input_ids, x))

    def layer_inputs_of(self, input_ids: Tensor, x: Tensor) -> Tensor | None:
        """What each layer is told of these tokens [T], whose vectors are x [T, hidden_size]:
        [num_layers, T, size]; None: nothing."""
        return None if self.layer_inputs is None else self.layer_inputs(input_ids, x)

    def embed(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """ids and positions [T] -> the residual stream before the first block, [T, hidden_size]."""
        x = self.embed_text(input_ids)
        return (
            x if type(self.embed_positions) is NoPositions else self.embed_positions(x, positions)
        )

    def embed_text(self, input_ids: Tensor) -> Tensor:
        """The same before learned positions are added."""
        x = _through(self.project_in, self.embed_tokens(input_ids))
        return _through(self.embed_norm, x)

    def _one_by_one(
        self,
        x: Tensor,
        batch: ForwardBatch,
        rotations: tuple[Rotation, ...],
        kv_cache: KVCache,
        plans: tuple[Any, ...],
    ) -> Tensor:
        batches, kinds = batch.by_group(), self.layer_kinds.of_groups(kv_cache.groups)
        for block, kind in zip(self.blocks, kinds, strict=True):
            own = batches[kind.group]
            x = block(x, own, rotations[kind.rotation], kv_cache, plans[kind.plan])
        return x

    def _passing_on(
        self,
        x: Tensor,
        batch: ForwardBatch,
        rotations: tuple[Rotation, ...],
        kv_cache: KVCache,
        plans: tuple[Any, ...],
    ) -> tuple[Tensor, Tensor | None]:
        """The same with an addition less a block, and the last one left to be added: a GPU is told
        each."""
        added: Tensor | None = None
        batches, kinds = batch.by_group(), self.layer_kinds.of_groups(kv_cache.groups)
        for block, kind in zip(self.blocks, kinds, strict=True):
            assert isinstance(block, Block)
            rotate, plan = rotations[kind.rotation], plans[kind.plan]
            x, added = block.pass_on(x, added, batches[kind.group], rotate, kv_cache, plan)
        return x, added

    def unembed(self, x: Tensor) -> Tensor:
        """Residual stream [S, hidden_size] -> float32 logits [S, vocab_size]."""
        logits: Tensor = self._logit_shape(self.score(self.final_norm(x)))
        return logits

    def score(self, normed: Tensor) -> Tensor:
        """The head alone: [S, hidden_size] -> float32 [S, vocab_size], not scaled nor capped."""
        logits: Tensor = self.lm_head(self.project_out(normed)).float()
        return logits

    def expected(self) -> set[tuple[str, str | None]]:
        """Every (parameter name, part) to push; see `model/loading/load_tensors.py`."""
        return expected_tensors(parameters(self.config))

    def load(self, name: str, part: str | None, tensor: Tensor | StoredTensor) -> None:
        """Fill one parameter or part; see `load_tensor` for errors."""
        declared = parameters(self.config)
        if name == LAYER_TABLE:
            assert self.layer_inputs is not None
            if self.layer_inputs.table.take_stored(tensor, self._widen):
                return
        if name == TABLE and isinstance(tensor, StoredTensor) and self._keep_table(tensor):
            return
        load_tensor(self, declared, self.ranks, name, part, tensor, self._widen)

    def _keep_table(self, table: StoredTensor) -> bool:
        """Whether the embeddings stay the file's blocks: nobody else may need them as numbers, so a
        head that shares them has to multiply by the blocks too."""
        if isinstance(self.lm_head, TiedLinear) and not self.lm_head.take_stored(table):
            return False
        is_whole = table.shape == tuple(self.embed_tokens.weight.shape)
        return is_whole and self.embed_tokens.take_stored(table, self._widen)

    def finish(self) -> None:
        """All tensors are in: let each linear layer bring its weights into their final form."""
        for module in self.modules():
            if isinstance(module, Linear | TiedLinear | HeadLinear):
                module.finish()
        self.shrink_table()

    def shrink_table(self) -> None:
        """Bring the embeddings into their final form, when the head has no more need of them."""
        if self.layer_inputs is not None:
            self.layer_inputs.table.shrink()
        if not (isinstance(self.lm_head, TiedLinear) and self.lm_head.reads_table):
            self.embed_tokens.shrink()
        if not self.embed_tokens.is_taped:
            self._begun = self._begin


def _through(module: nn.Module, x: Tensor) -> Tensor:
    """module(x): torch's way to call a module that changes nothing is a small step's time."""
    changed: Tensor = x if type(module) is nn.Identity else module(x)
    return changed


def as_pair(stream: Tensor | tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    return stream if isinstance(stream, tuple) else (stream, None)


def as_it_is(batch: ForwardBatch) -> ForwardBatch:
    """Of most models, whose stream begins where the rest is computed."""
    return batch


def tokens_alone(batch: ForwardBatch, x: Tensor) -> Tensor:  # noqa: ARG001
    """Of most models, whose stream begins with the tokens' vectors."""
    return x


def without_layer_inputs(batch: ForwardBatch, x: Tensor) -> ForwardBatch:  # noqa: ARG001
    """Of most models, whose layers read the stream alone."""
    return batch
