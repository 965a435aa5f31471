"""What models with multi-head latent attention call its tensors.

A checkpoint has a head's channels that are not turned before those that are, and turns neighbours;
ours come in the other order, and in halves (`model/parts/rope.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
    TensorTarget,
    with_bias,
)
from thirdeye.weights.architectures.llama import llama_names

ATTENTION = "blocks.{i}.attention"
QKV = f"{ATTENTION}.qkv"


HUGGINGFACE = {
    "query_down": "self_attn.q_a_proj",
    "latent": "self_attn.kv_a_proj_with_mqa",
    "query": "self_attn.q_proj",
    "query_up": "self_attn.q_b_proj",
    "query_norm": "self_attn.q_a_layernorm",
    "latent_norm": "self_attn.kv_a_layernorm",
    "keys_and_values": "self_attn.kv_b_proj",
}
GGUF = {
    "query_down": "attn_q_a",
    "latent": "attn_kv_a_mqa",
    "query": "attn_q",
    "query_up": "attn_q_b",
    "query_norm": "attn_q_a_norm",
    "latent_norm": "attn_kv_a_norm",
    "keys_and_values": "attn_kv_b",
}


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.huggingface_names(config, attention_names(config, HUGGINGFACE))


def gguf_names(config: ModelConfig) -> NameTable:
    """Since April 2025 a head's matrices to keys and to values are tensors of their own."""
    heads = config.num_heads
    also = attention_names(config, GGUF) | {
        "attn_k_b.weight": TensorTarget(f"{QKV}.key.weight", num_heads=heads, is_across=True),
        "attn_v_b.weight": TensorTarget(f"{ATTENTION}.value.weight", num_heads=heads),
    }
    return llama_names.gguf_names(config, also)


def attention_names(
    config: ModelConfig, called: Mapping[str, str], *, turns_neighbours: bool = True
) -> dict[str, Any]:
    """By what a file calls each, without its end: a query comes from the stream or through a
    latent of its own."""
    spec = latent_of(config)
    turned = turned_first if turns_neighbours else halves_first
    query = TensorTarget(f"{QKV}.query.weight", reorder=turned(spec.key_size, spec.rope_size))
    latent = TensorTarget(f"{QKV}.latent.weight", reorder=turned(spec.size, spec.rope_size))
    found: dict[str, Any] = with_bias(
        {
            f"{called['query_down']}.weight": TensorTarget(f"{QKV}.query_down.weight"),
            f"{called['latent']}.weight": latent,
        }
    )
    return found | {
        f"{called['query']}.weight": query,
        f"{called['query_up']}.weight": query,
        f"{called['query_norm']}.weight": TensorTarget(f"{QKV}.query_norm.weight"),
        f"{called['latent_norm']}.weight": TensorTarget(f"{QKV}.latent_norm.weight"),
        f"{called['keys_and_values']}.weight": of_keys_and_values(config),
    }


def latent_of(config: ModelConfig) -> LatentSpec:
    spec = config.attention_of(0).latent
    assert spec is not None
    return spec


def of_keys_and_values(config: ModelConfig) -> tuple[TensorTarget, TensorTarget]:
    """Of one matrix from a latent, whose rows are of each head a key's, then a value's."""
    spec = latent_of(config)
    size = spec.key_size + spec.value_size
    num_rows = config.num_heads * size
    keys, values = range(spec.key_size), range(spec.key_size, size)
    return (
        TensorTarget(f"{QKV}.key.weight", reorder=of_heads(keys, size), num_stored_rows=num_rows),
        TensorTarget(
            f"{ATTENTION}.value.weight", reorder=of_heads(values, size), num_stored_rows=num_rows
        ),
    )


def turned_first(num_others: int, rope_size: int) -> Reorder:
    """Of rows that are, of each head, `num_others` and then those that are turned."""
    size = num_others + rope_size
    halves = [*range(num_others, size, 2), *range(num_others + 1, size, 2)]
    return of_heads([*halves, *range(num_others)], size)


def halves_first(num_others: int, rope_size: int) -> Reorder:
    """The same where they are in halves already."""
    size = num_others + rope_size
    return of_heads([*range(num_others, size), *range(num_others)], size)


def of_heads(channels: Sequence[int], size: int) -> Reorder:
    """These rows of each head's `size`, in this order."""

    def pick(rows: Any) -> Any:
        return rows[
            [start + channel for start in range(0, len(rows), size) for channel in channels]
        ]

    return pick
