"""A look inside: one text through the model, layer by layer, and what each part of it did.

The probe runs the served model's own blocks, kernels and all, and hooks into them: read are a
block's input and output, and what its two branches add to the stream. No fast kernel ever holds the
pattern it computes, so that is computed once more, as the textbook does
(`model/attention/reference.py`), from the query and the keys that the kernel is given. Names and
shapes are TransformerLens's (`pattern`, `resid_pre`, ...), less the batch. It works in bounded
pieces, so that whoever runs it can do other things between them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.attention.protocol import Attends
from thirdeye.model.attention.reference import attention_pattern, read_tokens
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import AttentionSpec
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.parts.blocks import Block
from thirdeye.model.parts.experts import Experts, Routing
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
BLOCK_SIZE = 16  # of the probe's own KV cache


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one block did to `n` tokens: resid_mid = resid_pre + attn_out, and so on."""

    pattern: Tensor  # [num_heads, n, n] fp32: query x key; rows add up to 1, less what sinks take
    resid_pre: Tensor  # [n, hidden_size], and so are the four below
    attn_out: Tensor
    resid_mid: Tensor
    mlp_out: Tensor
    resid_post: Tensor
    routing: Routing | None = None  # whom each token asked, in a layer of experts

    def norms(self) -> Tensor:
        """The length of each token's vector at the points of STREAM: [5, n] fp32."""
        return torch.stack([getattr(self, name).float().norm(dim=-1) for name in STREAM])


def trace_layers(
    model: Transformer, input_ids: Tensor, max_rows: int, kv_dtype: torch.dtype | None = None
) -> Iterator[LayerTrace | None]:
    """A trace of each block in order for the tokens [n]; None between pieces.

    A piece is at most `max_rows` tokens of one block: less than a step of so many tokens costs.
    `kv_dtype` is that of the server's KV cache; None: that of the residual stream.
    """
    positions = torch.arange(len(input_ids), device=input_ids.device)
    x = model.embed(input_ids, positions)  # [n, hidden_size]
    kv_cache = _OneLayer(model, len(x), kv_dtype or x.dtype, x.device)
    for layer in range(len(model.blocks)):
        pieces: list[LayerTrace] = []
        for start in range(0, len(x), max_rows):
            if start:
                yield None
            rows = x[start : start + max_rows]
            pieces.append(_trace_rows(model, layer, rows, start, len(x), kv_cache))
        trace = LayerTrace(
            pattern=torch.cat([piece.pattern for piece in pieces], dim=1),
            **{name: torch.cat([getattr(piece, name) for piece in pieces]) for name in STREAM},
            routing=_joined([piece.routing for piece in pieces if piece.routing]),
        )
        yield trace
        x = trace.resid_post


def _joined(routings: list[Routing]) -> Routing | None:
    if not routings:
        return None
    chosen = torch.cat([routing.chosen.long() for routing in routings])
    return Routing(chosen, torch.cat([routing.weights for routing in routings]))


def _trace_rows(
    model: Transformer, layer: int, x: Tensor, start: int, num_keys: int, kv_cache: KVCache
) -> LayerTrace:
    """One block over the tokens [start, start + m), x [m, hidden_size], of a text of `num_keys`,
    whose tokens before have been here."""
    block = model.blocks[layer]
    assert isinstance(block, Block)
    batch = _batch(start, start + len(x), num_keys, x.device)
    rotation, plan = model.layer_kinds.of(layer, batch, kv_cache)
    with _observed(block, batch.block_table[0], start + len(x)) as seen:
        resid_post = block(x, batch, rotation, kv_cache, plan)
    pattern = model.ranks.gather(seen["pattern"], dim=0)  # [num_heads, m, positions so far]
    return LayerTrace(
        pattern=F.pad(pattern, (0, num_keys - pattern.shape[2])),
        resid_pre=x,
        attn_out=seen["attn_out"],
        resid_mid=x + seen["attn_out"],
        mlp_out=seen["mlp_out"],
        resid_post=resid_post,
        routing=seen.get("routing"),
    )


def _batch(start: int, stop: int, num_tokens: int, device: torch.device) -> ForwardBatch:
    """A step of one sequence's tokens [start, stop), whose blocks lie in order."""
    positions = torch.arange(start, stop, device=device)
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    return ForwardBatch(
        input_ids=positions,  # of which a block sees nothing
        positions=positions,
        slot_mapping=positions,
        query_start_loc=torch.tensor([0, stop - start], dtype=torch.int32, device=device),
        seq_lens=torch.tensor([stop], dtype=torch.int32, device=device),
        block_table=torch.arange(num_blocks, dtype=torch.int32, device=device)[None],
        logits_indices=positions[:0],
    )


class _OneLayer(KVCache):
    """Memory of one layer's keys and values, for one layer after the other."""

    def __init__(
        self, model: Transformer, num_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        own = rank_config(model.config, model.ranks.size)
        one = replace(own, num_hidden_layers=1, attention=own.attention[:1])
        self._cache = make_kv_cache(one, -(-num_tokens // BLOCK_SIZE), BLOCK_SIZE, dtype, device)
        self.keys, self.values = self._cache.keys, self._cache.values

    def layer(self, index: int) -> tuple[Any, Any]:  # noqa: ARG002
        return self._cache.layer(0)

    def write(self, layer: int, key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:  # noqa: ARG002
        self._cache.write(0, key, value, slot_mapping)


@contextmanager
def _observed(block: Block, block_table: Tensor, num_keys: int) -> Iterator[dict[str, Any]]:
    """While this lasts, what a block does to one sequence is put into the dict."""
    seen: dict[str, Any] = {}

    def keep(name: str, module: nn.Module) -> Any:
        return module.register_forward_hook(lambda _, __, output: seen.update({name: output}))

    attention = block.attention
    served = attention.backend
    hooks = [keep("attn_out", block.attention_branch), keep("mlp_out", block.mlp_branch)]
    if isinstance(block.mlp, Experts):
        hooks.append(keep("routing", block.mlp.router))
    attention.backend = _Watched(served, attention.spec, block_table, num_keys, seen)
    try:
        yield seen
    finally:
        attention.backend = served
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True, slots=True)
class _Watched:
    """The served kernel in the midst of a block, and the pattern of what it is asked."""

    served: Attends
    spec: AttentionSpec
    block_table: Tensor  # [M] int32
    num_keys: int
    seen: dict[str, Any]

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: Any,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        keys = read_tokens(key_cache, self.block_table, self.num_keys)
        self.seen["pattern"] = attention_pattern(query, keys, self.spec, sinks, slopes)
        return self.served.forward(query, key_cache, value_cache, plan, sinks, slopes)


def logit_lens(model: Transformer, resid: Tensor) -> Tensor:
    """What the model would say if it stopped here: resid [n, hidden_size] -> logprobs [n, vocab].

    The final norm and the head, read from inside the stream (nostalgebraist 2020, "interpreting
    GPT: the logit lens"). After the last block it is the model's own next-token distribution.
    """
    return model.unembed(resid).log_softmax(dim=-1)
