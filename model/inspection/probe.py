"""A look inside: one text through the model, layer by layer, and what each part of it did.

The probe calls the served model's own parts, kernels and all, and keeps what passes between them:
nothing is put into the served modules. No fast kernel ever holds the pattern it computes, so that
is computed once more, as the textbook does (`heads.py`), from the query and the keys that the
kernel is given. Names and shapes are TransformerLens's (`pattern`, `resid_pre`, ...), less the
batch. It works in bounded pieces, so that whoever runs it can do other things between them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.config import AttentionSpec
from thirdeye.model.inspection.block_run import BlockPiece, BlockRun
from thirdeye.model.inspection.edits import Edit, TextEdits
from thirdeye.model.inspection.heads import head_pattern
from thirdeye.model.inspection.latent.made_heads import MadeCache, MadeHead
from thirdeye.model.inspection.text_rows import BLOCK_SIZE, TextRows
from thirdeye.model.parallel.shares import Ranks, rank_config
from thirdeye.model.parts.blocks import Block
from thirdeye.model.parts.experts import Routing
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import one_group
from thirdeye.model.state.state_cache import StateCache
from thirdeye.model.transformer import Transformer

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one block did to `n` tokens: resid_mid = resid_pre + attn_out, and so on. Of heads and
    neurons it has this rank's own, in order."""

    block: Block
    ranks: Ranks
    resid_pre: Tensor  # [n, hidden_size], and so are the four of the stream below
    attn_out: Tensor
    resid_mid: Tensor
    mlp_out: Tensor
    resid_post: Tensor
    normed: Tensor  # [n, hidden_size]: what attention reads
    query: Tensor  # [n, num_heads, head_dim], turned
    query_scale: Tensor | None  # [n, 1, 1]: what it was then multiplied by
    keys: Tensor  # [n, num_kv_heads, head_dim], turned, as they are kept
    values: Tensor
    z: Tensor  # [n, num_heads, head_dim]: the values, mixed
    remembered: Tensor | None  # [n, hidden_size]: what a state adds, part of attn_out
    told: Tensor | None  # [n, hidden_size]: what is added of a layer's own input (Gemma 4)
    key_value: Tensor | None  # [n, num_kv_heads, key and value], not turned, if they were edited
    neurons: Tensor | None  # [n, intermediate_size]; None in a layer of experts
    routing: Routing | None  # whom each token asked, in a layer of experts
    patterns: dict[int, Tensor]  # those that were edited, by head: [n, n]
    made_heads: dict[int, MadeHead]  # by head, where keys and values over latents were edited

    @property
    def pattern(self) -> Tensor:
        """[num_heads, n, n] fp32: query x key; rows add up to 1, less what sinks take."""
        own = self.own_pattern(range(self.num_heads))
        return self.ranks.gather(own, dim=0)

    @property
    def num_heads(self) -> int:
        """This rank's; 0 in a layer that keeps a state."""
        return self.query.shape[1]

    def gated(self, rows: Sequence[int] | slice) -> Tensor:
        """z of these rows as the output layer reads it, [rows, num_heads * head_dim]: let through
        as each token says, where a model gates it."""
        return self.block.self_attention.through_gate(self.z[rows].flatten(1), self.normed[rows])

    def own_pattern(self, heads: Sequence[int]) -> Tensor:
        """The same of some of this rank's heads."""
        if not self.num_heads:
            return self.query.new_empty(0, len(self.query), len(self.query), dtype=torch.float32)
        pattern = head_pattern(self.block.self_attention, self.query, self.keys, heads)
        for place, head in enumerate(heads):
            if head in self.patterns:
                pattern[place] = self.patterns[head]
        return pattern

    def norms(self) -> Tensor:
        """The length of each token's vector at the points of STREAM: [5, n] fp32."""
        return torch.stack([getattr(self, name).float().norm(dim=-1) for name in STREAM])


def trace_layers(
    model: Transformer,
    input_ids: Tensor,
    max_rows: int,
    kv_dtype: torch.dtype | None = None,
    edits: Sequence[Edit] = (),
    kv_cache: KVCache | None = None,
    capacity: int = 0,
    made: MadeCache | None = None,
) -> Iterator[LayerTrace | None]:
    """A trace of each block in order for the tokens [n]; None between pieces.

    A piece is at most `max_rows` tokens of one block: less than a step of so many tokens costs.
    `kv_dtype` is that of the server's KV cache; None: that of the residual stream. `kv_cache`: one
    that keeps every layer, for `capacity` tokens; None: each layer's is forgotten after it. `made`
    is filled as it is: with heads' own keys and values, where those over latents are edited.
    """
    by_text, made = TextEdits((edits,)), {} if made is None else made
    x = start_of_stream(model, input_ids, edits)
    whole = TextRows(0, len(x), max(capacity, len(x)))
    cache = kv_cache or OneLayerCache(model, whole, kv_dtype, x)
    layer_inputs = model.layer_inputs_of(input_ids, x)
    for layer in range(len(model.blocks)):
        pieces: list[BlockPiece] = []
        for rows in whole.pieces(max_rows):
            if rows.start:
                yield None
            own = None if layer_inputs is None else layer_inputs[:, rows.start : rows.stop]
            run = BlockRun(model, layer, rows, cache, by_text, own, made)
            pieces.append(run(x[rows.start : rows.stop]))
        trace = _joined(model, layer, pieces, *run.kept())
        yield trace
        x = trace.resid_post


def start_of_stream(
    model: Transformer, input_ids: Tensor, edits: Sequence[Edit] = (), start: int = 0
) -> Tensor:
    """The stream before the first block, of tokens [n] from the position `start` on."""
    x = model.embed_text(input_ids)  # [n, hidden_size]
    for edit in edits:
        if edit.at == "embed":
            x = edit.applied(x, start)
    positions = torch.arange(start, start + len(x), device=x.device)
    embedded: Tensor = model.embed_positions(x, positions)
    return embedded


def _joined(
    model: Transformer, layer: int, pieces: list[BlockPiece], keys: Tensor, values: Tensor
) -> LayerTrace:
    def whole(name: str) -> Any:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else torch.cat(parts)

    block = model.blocks[layer]
    assert isinstance(block, Block)
    resid_pre, attn_out = whole("resid_pre"), whole("attn_out")
    return LayerTrace(
        block=block,
        ranks=model.ranks,
        resid_pre=resid_pre,
        attn_out=attn_out,
        resid_mid=resid_pre + attn_out,
        keys=keys,
        values=values,
        routing=_joined_routing([piece.routing for piece in pieces if piece.routing]),
        patterns=_joined_patterns(pieces, len(keys)),
        made_heads=last.of(0) if (last := pieces[-1].made_heads) else {},
        **{
            name: whole(name)
            for name in (
                *("mlp_out", "resid_post", "normed", "query", "query_scale", "z"),
                *("remembered", "told", "key_value", "neurons"),
            )
        },
    )


def _joined_routing(routings: list[Routing]) -> Routing | None:
    if not routings:
        return None
    chosen = torch.cat([routing.chosen.long() for routing in routings])
    return Routing(chosen, torch.cat([routing.weights for routing in routings]))


def _joined_patterns(pieces: list[BlockPiece], num_tokens: int) -> dict[int, Tensor]:
    """By head; the keys that a piece did not have yet weigh nothing."""
    rows: dict[int, list[Tensor]] = {}
    for piece in pieces:
        for (_, head), weights in piece.patterns.items():
            padded = torch.nn.functional.pad(weights, (0, num_tokens - weights.shape[1]))
            rows.setdefault(head, []).append(padded)
    return {head: torch.cat(parts) for head, parts in rows.items()}


class OneLayerCache(KVCache):
    """Memory of one layer's keys and values, for one layer after the other: of each shape that a
    layer's have, and of each layer that others read."""

    def __init__(
        self, model: Transformer, rows: TextRows, dtype: torch.dtype | None, like: Tensor
    ) -> None:
        """`dtype`: None for that of `like`, which is on the right device."""
        own = rank_config(model.config, model.ranks.size)
        read_again = {own.attention_of(layer).source for layer in own.attending_layers}
        whose = [  # a shape, what it is made of, and the layer if it is read again
            (shape, own.attention_of(layer).latent, layer if layer in read_again else None)
            for shape, layer in zip(own.kv_shapes, own.keeping_layers, strict=True)
        ]
        apart = list(dict.fromkeys(whose))
        one_of_each = replace(
            own,
            num_hidden_layers=len(apart),
            attention=tuple(
                AttentionSpec(num_kv_heads=number, head_dim=size, latent=latent, scale=1.0)
                for (number, size), latent, _ in apart
            ),
            mlp_sizes=(),
            state=None,
            state_layers=(),
            state_beside=False,
            lone_mlps=(),
        )
        num_blocks = rows.num_blocks * rows.num_texts
        kept = dtype or like.dtype
        self._cache = make_kv_cache(one_of_each, num_blocks, BLOCK_SIZE, kept, like.device)
        self._places = [apart.index(one) for one in whose]  # by a layer's index
        self.num_blocks, self.block_size = num_blocks, BLOCK_SIZE
        self.groups = one_group(own)
        self.keys, self.values = self._cache.keys, self._cache.values
        self.states = StateCache(own, rows.num_texts, like.device)

    def layer(self, index: int) -> tuple[Any, Any]:
        return self._cache.layer(self._places[index])

    def write(self, layer: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:
        self._cache.write(self._places[layer], key, value, slot_mapping)


def logit_lens(model: Transformer, resid: Tensor) -> Tensor:
    """What the model would say if it stopped here: resid [n, hidden_size] -> logprobs [n, vocab].

    The final norm and the head, read from inside the stream (nostalgebraist 2020, "interpreting
    GPT: the logit lens"). After the last block it is the model's own next-token distribution.
    """
    return model.unembed(resid).log_softmax(dim=-1)
