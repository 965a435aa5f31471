"""A look inside: one text through the model, layer by layer, and what each part of it did.

The probe runs the served model's own modules, so it sees whatever form their weights are kept in;
only attention is the textbook's (`model/attention/reference.py`), since no fast kernel ever holds
the pattern it computes. Names and shapes are TransformerLens's (`pattern`, `resid_pre`, ...), less
the batch. It works in bounded pieces, so that whoever runs it can do other things between them.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.attention.reference import attention_weights, causal_mask
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.parts.self_attention import SelfAttention
from thirdeye.model.transformer import Block, Transformer

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one block did to `n` tokens: resid_mid = resid_pre + attn_out, and so on."""

    pattern: Tensor  # [num_heads, n, n] fp32: query x key; rows add up to 1 (sinks take some)
    resid_pre: Tensor  # [n, hidden_size], and so are the four below
    attn_out: Tensor
    resid_mid: Tensor
    mlp_out: Tensor
    resid_post: Tensor

    def norms(self) -> Tensor:
        """The length of each token's vector at the points of STREAM: [5, n] fp32."""
        return torch.stack([getattr(self, name).float().norm(dim=-1) for name in STREAM])


def trace_layers(
    model: Transformer, input_ids: Tensor, max_rows: int
) -> Iterator[LayerTrace | None]:
    """A trace of each block in order for the tokens [n]; None between pieces.

    A piece is at most `max_rows` tokens of one block: less than a step of so many tokens costs.
    """
    positions = torch.arange(len(input_ids), device=input_ids.device)
    x = model.embed_positions(model.embed_tokens(input_ids), positions)  # [n, hidden_size]
    rotations = model.layer_kinds.rotations(positions)
    for block, kind in zip(model.blocks, model.layer_kinds.kinds, strict=True):
        assert isinstance(block, Block)
        rotation = rotations[kind.rotation]
        trace = yield from _trace_block(block, model, x, rotation, max_rows)
        yield trace
        x = trace.resid_post


def _trace_block(
    block: Block, model: Transformer, x: Tensor, rotation: Rotation, max_rows: int
) -> Generator[None, None, LayerTrace]:
    """Chunk by chunk: the queries of a chunk look at the keys of all chunks up to their own."""
    pieces: list[LayerTrace] = []
    past: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(x), max_rows):
        if start:
            yield None
        rows = slice(start, start + max_rows)
        rotate = Rotation(rotation.cos[rows], rotation.sin[rows])
        pieces.append(_trace_rows(block, model, x[rows], rotate, past, len(x)))
    columns = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in STREAM}
    return LayerTrace(pattern=torch.cat([piece.pattern for piece in pieces], dim=1), **columns)


def _trace_rows(
    block: Block,
    model: Transformer,
    x: Tensor,
    rotate: Rotation,
    past: list[tuple[Tensor, Tensor]],
    num_keys: int,
) -> LayerTrace:
    """One chunk x [m, hidden_size]; its keys and values are added to `past`."""
    attention = block.attention
    query, key, value = attention.project(block.attention_norm(x), rotate)
    past.append((key, value))
    keys, values = (torch.cat(parts) for parts in zip(*past, strict=True))
    pattern = _pattern(
        query, keys, attention
    )  # [this rank's heads, m, positions up to the chunk's end]
    group = attention.num_heads // attention.num_kv_heads
    spread = values.repeat_interleave(group, dim=1)  # [L, num_heads, head_dim]
    mixed = torch.einsum("hqk,khd->qhd", pattern.to(spread.dtype), spread)
    attn_out = attention.output(mixed.flatten(1))
    resid_mid = x + attn_out
    mlp_out = block.mlp(block.mlp_norm(resid_mid))
    pattern = model.ranks.gather(pattern, dim=0)  # [num_heads, m, ...]
    unseen = num_keys - len(keys)  # behind the chunk's end, hidden from it
    return LayerTrace(
        pattern=torch.nn.functional.pad(pattern, (0, unseen)),
        resid_pre=x,
        attn_out=attn_out,
        resid_mid=resid_mid,
        mlp_out=mlp_out,
        resid_post=resid_mid + mlp_out,
    )


def _pattern(query: Tensor, keys: Tensor, attention: SelfAttention) -> Tensor:
    """query [m, num_heads, head_dim], keys [L, num_kv_heads, head_dim] -> [num_heads, m, L]."""
    group = query.shape[1] // keys.shape[1]  # query heads that share one key head
    spec, sinks = attention.spec, attention.sink_scores
    mask = causal_mask(len(query), len(keys), query.device, spec.window)
    return torch.stack(
        [
            attention_weights(
                *(query[:, head], keys[:, head // group], mask, spec),
                None if sinks is None else sinks[head],
            )
            for head in range(query.shape[1])
        ]
    )


def logit_lens(model: Transformer, resid: Tensor) -> Tensor:
    """What the model would say if it stopped here: resid [n, hidden_size] -> logprobs [n, vocab].

    The final norm and the head, read from inside the stream (nostalgebraist 2020, "interpreting
    GPT: the logit lens"). After the last block it is the model's own next-token distribution.
    """
    logprobs: Tensor = model.lm_head(model.final_norm(resid)).float().log_softmax(dim=-1)
    return logprobs
