"""A checkpoint through the real loader, and steps of one sequence through the model."""

from pathlib import Path

import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import ALONE, Ranks, rank_config
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

CPU = torch.device("cpu")
BLOCKS = [3, 1, 4, 2]  # of 16 tokens each


def load(
    path: Path,
    *,
    attention: AttentionBackend | None = None,
    is_fused: bool = False,
    native: Library | None = None,
    quantize: str = "none",
    ranks: Ranks = ALONE,
    max_adapters: int = 0,
) -> Transformer:
    """In fp32; with our kernels if there are any, a CPU's or, `is_fused`, those in triton."""
    checkpoint = open_checkpoint(path)
    model = Transformer(
        checkpoint.config,
        attention or (NativeAttention(native) if native else BlockedAttention()),
        dtype=torch.float32,
        device=CPU,
        quantize=quantize,
        is_fused=is_fused,
        native=native,
        ranks=ranks,
        max_adapters=max_adapters,
    )
    loader = ModelLoader(model)
    load_weights(checkpoint, loader)
    loader.finish()
    return model


def make_cache(model: Transformer) -> KVCache:
    own = rank_config(model.config, model.ranks.size)
    return KVCache(own, 5, 16, torch.float32, CPU, num_states=1)


def step(model: Transformer, cache: KVCache, token_ids: list[int], past: int) -> Tensor:
    """Logits [T, vocab_size] of the next tokens of the one sequence there is. A tape writes its
    next step's where its last one's are: these are the caller's own."""
    return model(make_batch([Row(token_ids, past, BLOCKS)], 16, "all"), cache).clone()


def logits(model: Transformer, token_ids: list[int], chunk: int = 100) -> Tensor:
    """Of every token [T, vocab_size], fed in chunks."""
    cache = make_cache(model)
    starts = range(0, len(token_ids), chunk)
    return torch.cat([step(model, cache, token_ids[i : i + chunk], i) for i in starts])


def greedy(model: Transformer, prompt: list[int], num_tokens: int) -> list[int]:
    """The likeliest tokens, one step each behind the prompt's."""
    cache, ids = make_cache(model), list(prompt)
    new = prompt
    for _ in range(num_tokens):
        found = step(model, cache, new, len(ids) - len(new))[-1].argmax().item()
        new = [int(found)]
        ids += new
    return ids[len(prompt) :]
