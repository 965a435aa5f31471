"""One block over some rows, part by part, by the served modules: where edits and traces are made.

Rows are those of one text, or of several of one length, each with keys of its own: attention is
computed text by text and linear layers over all rows together, as in a step of the engine. So on a
CPU a text's bits are the same alone or beside others.
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.attention.reference import read_tokens
from thirdeye.model.inspection.edits import NO_EDITS, Edit, TextEdits
from thirdeye.model.inspection.heads import head_pattern, kv_head_of
from thirdeye.model.inspection.latent.made_heads import MadeCache, MadeHeads
from thirdeye.model.inspection.text_rows import TextRows
from thirdeye.model.parts.blocks import (
    BesideBlock,
    Block,
    InformedBlock,
    LoneMixerBlock,
    LoneMLPBlock,
)
from thirdeye.model.parts.experts import Experts, Routing
from thirdeye.model.parts.layers import MLP, GatedMLP
from thirdeye.model.parts.mixed_mlp import MixedMLP
from thirdeye.model.parts.self_attention import SelfAttention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer


@dataclass(slots=True)
class BlockPiece:
    """What one block did to `m` rows; of heads and neurons, to this rank's own."""

    resid_pre: Tensor  # [m, hidden_size], and so are those of the stream below
    attn_out: Tensor = field(init=False)
    mlp_out: Tensor = field(init=False)
    resid_post: Tensor = field(init=False)
    normed: Tensor = field(init=False)  # what attention reads
    query: Tensor = field(init=False)  # [m, num_heads, head_dim], turned
    z: Tensor = field(init=False)  # [m, num_heads, head_dim]
    query_scale: Tensor | None = None  # [m, 1, 1]: what turned queries were multiplied by
    remembered: Tensor | None = None  # [m, hidden_size]: what a state adds, part of attn_out
    told: Tensor | None = None  # [m, hidden_size]: what is added of a layer's own input
    key_value: Tensor | None = None  # [m, num_kv_heads, key and value], unturned, if edited
    neurons: Tensor | None = None  # [m, intermediate_size]; None in a layer of experts
    routing: Routing | None = None  # whom each token asked, in a layer of experts
    patterns: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # edited ones, by
    # text and head: [rows of the text, keys so far]
    made_heads: MadeHeads | None = None  # that were edited, where attention is over latents


class BlockRun:
    """One block at one piece of the work."""

    def __init__(
        self,
        model: Transformer,
        layer: int,
        rows: TextRows,
        kv_cache: KVCache,
        edits: TextEdits = NO_EDITS,
        layer_inputs: Tensor | None = None,
        made: MadeCache | None = None,
    ) -> None:
        """`kv_cache` has the keys and values of the positions before, and of the layers before that
        are read again; `layer_inputs` [num_layers, rows, size] are what layers are told of these
        rows besides, where a model tells any. `made`: the run's own, where it is in pieces."""
        block = model.blocks[layer]
        assert isinstance(block, Block)
        self._block, self._layer, self._rank = block, layer, model.ranks.rank
        self._rows, self._cache, self._edits = rows, kv_cache, edits
        self._device = next(iter(model.parameters())).device
        self._batch = rows.batch(self._device)
        if layer_inputs is not None:
            self._batch = replace(self._batch, layer_inputs=layer_inputs.contiguous())
        self._rotate, self._plan = model.layer_kinds.of(layer, self._batch, kv_cache)
        self._made = {} if made is None else made

    def __call__(self, x: Tensor) -> BlockPiece:
        """x [rows, hidden_size]."""
        self._piece = BlockPiece(self._edited("resid_pre", x))
        self._fill_what_is_not_there()
        added = self._block.around(self._piece.resid_pre, self._attend, self._think)
        if isinstance(self._block, InformedBlock):
            self._piece.told = self._block.layer_input(added, self._batch.layer_inputs)
        resid_post = self._block.close(added, self._batch)
        self._piece.resid_post = self._edited("resid_post", resid_post)
        return self._piece

    def _attend(self, normed: Tensor) -> Tensor:
        piece, attention = self._piece, self._block.attention
        piece.normed = normed
        if not isinstance(attention, SelfAttention):
            return self._remember(attention, normed)
        piece.query = attention.keep(normed, self._batch, self._rotate, self._cache)
        piece.query_scale = self._rotate.query_scale
        self._edit_keys_and_values(normed)
        plan = self._plan[0] if isinstance(self._block, BesideBlock) else self._plan
        z = attention.mix(piece.query, self._cache, plan)
        if piece.made_heads:
            seen = piece.made_heads.see(z, piece.query, piece.query_scale, self._rows)
            z, piece.patterns = seen
        piece.z = self._edited_heads("head", self._with_edited_patterns(z))
        mixed = attention.through_gate(piece.z.flatten(1), normed)
        attended = self._block.attention_post_norm(attention.output(mixed))
        if isinstance(self._block, BesideBlock):
            states = self._plan[1]
            piece.remembered = self._block.state(
                normed, self._batch, self._rotate, self._cache, states
            )
            attended += piece.remembered
        piece.attn_out = self._edited("attn_out", attended)
        return piece.attn_out

    def _fill_what_is_not_there(self) -> None:
        """Of a layer that has either attention or an MLP: what the other would add."""
        piece = self._piece
        if isinstance(self._block, LoneMLPBlock):
            piece.attn_out = torch.zeros_like(piece.resid_pre)
            piece.normed = self._block.attention_norm(piece.resid_pre)
            piece.query = piece.z = piece.resid_pre.new_empty(len(piece.resid_pre), 0, 1)
        if isinstance(self._block, LoneMixerBlock):
            piece.mlp_out = torch.zeros_like(piece.resid_pre)

    def _remember(self, layer: nn.Module, normed: Tensor) -> Tensor:
        """The same of a layer that keeps a state: it has no head that looks."""
        piece = self._piece
        kept = layer(normed, self._batch, self._rotate, self._cache, self._plan)
        piece.query = piece.z = normed.new_empty(len(normed), 0, 1)
        piece.remembered = self._block.attention_post_norm(kept)
        piece.attn_out = self._edited("attn_out", piece.remembered)
        return piece.attn_out

    def _think(self, normed: Tensor) -> Tensor:
        piece, mlp = self._piece, self._block.mlp
        if isinstance(mlp, Experts):
            piece.routing = mlp.router(normed)
            thought = mlp.answer(normed, piece.routing)
        elif isinstance(mlp, MixedMLP):
            piece.routing = mlp.route(normed)
            thought = mlp.answer(normed, piece.routing)
        else:
            assert isinstance(mlp, MLP | GatedMLP)
            neurons = mlp.neurons(normed)
            piece.neurons = self._edited_heads("neuron", neurons[..., None])[..., 0]
            thought = mlp.down(piece.neurons)
        piece.mlp_out = self._edited("mlp_out", self._block.mlp_post_norm(thought))
        return piece.mlp_out

    def _edited(self, point: str, x: Tensor) -> Tensor:
        """x [rows, width] with the edits of this point; itself, if there are none."""
        found = self._edits.at(point, self._layer)
        if found:
            x = x.clone()
        for text, edit in found:
            rows = self._rows.of(text)
            x[rows] = edit.applied(x[rows], self._rows.start)
        return x

    def _edited_heads(self, point: str, x: Tensor) -> Tensor:
        """The same of x [rows, this rank's heads, width], of which an edit means one."""
        found = self._edits.at(point, self._layer)
        if found:
            x = x.clone()
        for text, edit in found:
            own, rows = self._own(edit, x.shape[1]), self._rows.of(text)
            if own is not None:
                x[rows, own] = edit.applied(x[rows, own], self._rows.start)
        return x

    def _own(self, edit: Edit, num_own: int) -> int | None:
        """The number among this rank's; None if it is another's."""
        own = edit.index - self._rank * num_own
        return own if 0 <= own < num_own else None

    def _edit_keys_and_values(self, normed: Tensor) -> None:
        """What is in the cache already, put there once more where it is edited."""
        attention = self._block.self_attention
        if not self._edits.at("kv_head", self._layer):
            return
        if attention.spec.latent:
            self._make_heads(attention, normed)
            return
        _, key, value = attention.unturned(normed)
        before = torch.cat((key, value), dim=-1)
        after = self._piece.key_value = self._edited_heads("kv_head", before)
        is_new = (after != before).any(-1, keepdim=True)  # [rows, num_kv_heads, 1]
        key, value = after.chunk(2, dim=-1)
        turned = attention.turn_keys(key, self._rotate)
        kept = [torch.cat(parts) for parts in zip(*map(self._kept, self._texts()), strict=True)]
        self._cache.write(
            attention.layer,
            torch.where(is_new, turned, kept[0].to(turned)),
            torch.where(is_new, value, kept[1].to(value)),
            self._batch.slot_mapping,
        )

    def _make_heads(self, attention: SelfAttention, normed: Tensor) -> None:
        """Of latents no key or value is a head's own: it gets some, to be edited."""
        made = MadeHeads(attention, normed, lambda text: self._read(text)[0])
        before = made.unturned()
        after = self._piece.key_value = self._edited_heads("kv_head", before)
        owns = (
            (text, self._own(edit, attention.num_heads))
            for text, edit in self._edits.at("kv_head", self._layer)
        )
        places = dict.fromkeys((text, own) for text, own in owns if own is not None)
        made.keep(places, before, after, self._rotate, self._rows, self._made)
        self._piece.made_heads = made

    def _with_edited_patterns(self, z: Tensor) -> Tensor:
        """z, of edited patterns' heads as in the textbook: weights times values."""
        found = self._edits.at("pattern", self._layer)
        if not found:
            return z
        z, patterns = z.clone(), self._piece.patterns
        attention, start, stop = self._block.self_attention, self._rows.start, self._rows.stop
        for text, edit in found:
            own, rows = self._own(edit, attention.num_heads), self._rows.of(text)
            if own is None:
                continue
            keys, values = self._read(text)
            weights = patterns.get((text, own))
            if weights is None:
                queries = self._piece.query[rows]
                weights = head_pattern(attention, queries, keys, [own])[0]  # [m, stop]
            whole = F.pad(weights, (0, self._rows.num_tokens - stop))
            weights = edit.applied(whole, start)[:, :stop].tril(start)  # no key that lies ahead
            patterns[text, own] = weights
            made = self._piece.made_heads and self._piece.made_heads.get(text, own)
            if made:
                z[rows, own] = (weights @ made.values.float()).to(z.dtype)
                continue
            seen = weights @ values[:, kv_head_of(attention, own)].float()
            z[rows, own] = attention.value_of(own, seen.to(z.dtype))
        return z

    def _texts(self) -> range:
        return range(self._rows.num_texts)

    def _read(self, text: int) -> tuple[Tensor, Tensor]:
        """A text's keys and values up to here, [stop, num_kv_heads, head_dim], as they are kept."""
        table = self._batch.block_table[text]
        keys, values = self._cache.layer(self._block.self_attention.layer)
        keys, values = (read_tokens(cache, table, self._rows.stop) for cache in (keys, values))
        return keys, values

    def _kept(self, text: int) -> tuple[Tensor, Tensor]:
        """The same of these rows alone."""
        keys, values = self._read(text)
        return keys[self._rows.start :], values[self._rows.start :]

    def kept(self) -> tuple[Tensor, Tensor]:
        """Of the first text, all its keys and values so far."""
        if not isinstance(self._block.attention, SelfAttention):
            nothing = torch.empty(self._rows.stop, 0, 1, device=self._device)
            return nothing, nothing
        return self._read(0)
