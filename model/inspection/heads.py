"""One head at a time, by the textbook: its scores, its pattern, what it adds to the stream."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thirdeye.model.attention.reference import attention_scores, attention_weights, seen_mask
from thirdeye.model.parts.self_attention import SelfAttention


def head_pattern(
    attention: SelfAttention, query: Tensor, keys: Tensor, heads: Sequence[int]
) -> Tensor:
    """query [m, num_heads, head_dim], turned, of the last m of the L positions of keys
    [L, num_kv_heads, head_dim] -> the weights of these heads, [heads, m, L] fp32."""
    weights = [
        weights_of(attention, query[:, head], keys[:, kv_head_of(attention, head)], head)
        for head in heads
    ]
    return torch.stack(weights)


def weights_of(attention: SelfAttention, query: Tensor, keys: Tensor, head: int) -> Tensor:
    """query [m, size] of one head and keys [L, size] that it looks at -> its weights [m, L]."""
    mask = seen_mask(attention.spec, len(query), len(keys), query.device)
    sinks, slopes = attention.sink_scores, attention.slopes
    sink = None if sinks is None else sinks[head]
    slope = None if slopes is None else slopes[head]
    return attention_weights(query, keys, mask, attention.spec, sink, slope)


def head_scores(
    attention: SelfAttention, query: Tensor, keys: Tensor, heads: Sequence[int], is_masked: bool
) -> Tensor:
    """The same before the softmax; NaN where the mask is, unless it is left off."""
    scores = [
        scores_of(attention, query[:, head], keys[:, kv_head_of(attention, head)], head, is_masked)
        for head in heads
    ]
    return torch.stack(scores)


def scores_of(
    attention: SelfAttention, query: Tensor, keys: Tensor, head: int, is_masked: bool
) -> Tensor:
    """The same of one, see `weights_of`."""
    slope = None if attention.slopes is None else attention.slopes[head]
    scores = attention_scores(query, keys, attention.spec, slope)
    if not is_masked:
        return scores
    mask = seen_mask(attention.spec, len(query), len(keys), query.device)
    return scores.masked_fill(~mask, math.nan)


def is_kept_as_projected(attention: SelfAttention, part: str) -> bool:
    """Whether nothing is done to keys ("k") or values ("v") before they are turned and kept."""
    changes = {
        "k": (attention.clip, attention.wide_qk_norm, attention.head_qk_norm, attention.qk_norm),
        "v": (attention.clip, attention.value_norm),
    }
    return all(isinstance(change, nn.Identity) for change in changes[part])


def kv_head_of(attention: SelfAttention, head: int) -> int:
    """The key/value head that a query head looks at."""
    return head // (attention.num_heads // attention.num_kv_heads)


def head_results(
    attention: SelfAttention, vectors: Tensor, heads: Sequence[int], rank: int
) -> Tensor:
    """What each of these heads makes of vectors [m, this rank's heads, head_dim] by its part of the
    output layer, without its bias: [heads, m, hidden_size]. `heads` count over all ranks."""
    num_own = vectors.shape[1]
    alone = vectors.new_zeros(len(heads), *vectors.shape)
    for place, head in enumerate(heads):
        if 0 <= head - rank * num_own < num_own:
            alone[place, :, head - rank * num_own] = vectors[:, head - rank * num_own]
    rows = attention.output(alone.flatten(0, 1).flatten(1))
    return (rows - output_bias(attention, vectors)).view(len(heads), len(vectors), -1)


def output_bias(attention: SelfAttention, like: Tensor) -> Tensor:
    """What the output layer makes of nothing: [1, hidden_size]."""
    bias: Tensor = attention.output(like.new_zeros(1, like.shape[1] * like.shape[2]))
    return bias
