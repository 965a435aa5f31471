"""What the families from before Llama call their tensors, and how they keep q, k and v merged.

Readers write `{theirs: ours}` of a layer; weights and biases go together.
"""

from collections.abc import Mapping
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
    TensorTarget,
    with_bias,
)
from thirdeye.weights.architectures.llama.llama_names import gguf_names as llama_gguf_names
from thirdeye.weights.architectures.llama.llama_names import with_norm_biases

QKV = "attention.qkv"


def huggingface_names(
    config: ModelConfig,
    *,
    layers: str,
    layer: Mapping[str, str | TensorTarget],
    top: Mapping[str, str | TensorTarget],
    head: str = "lm_head",
    ignored: frozenset[str] = frozenset(),
    prefixes: tuple[str, ...] = (),
) -> NameTable:
    """`layers`: "h.{i}", what stands before a layer's names. In `layer` and `top` are a module's
    name in the file and ours, or where its weight goes."""
    names = {f"{layers}.{name}.weight": _target(to, "blocks.{i}.") for name, to in layer.items()}
    names |= {f"{name}.weight": _target(to, "") for name, to in top.items()}
    if config.tie_word_embeddings:
        ignored |= {f"{head}.weight"}  # a copy of the embedding
    else:
        names[f"{head}.weight"] = TensorTarget("lm_head.weight")
    return NameTable(with_bias(names), ignored, config.num_hidden_layers, prefixes)


def _target(to: str | TensorTarget, before: str) -> TensorTarget:
    return TensorTarget(f"{before}{to}.weight") if isinstance(to, str) else to


def gguf_names(config: ModelConfig, also: Mapping[str, TensorTarget] | None = None) -> NameTable:
    """All of them have the same names there, and q, k and v one below the other."""
    layer = {"attn_qkv.weight": TensorTarget(f"blocks.{{i}}.{QKV}.weight"), **(also or {})}
    table = with_norm_biases(llama_gguf_names(config, with_bias(layer)))
    names = {
        **table.names,
        "position_embd.weight": TensorTarget("embed_positions.weight"),
        "output.bias": TensorTarget("lm_head.bias"),
    }
    return NameTable(names, table.ignored, table.num_layers)


def parted_qkv(num_kv_heads: int, group: int = 1) -> Reorder:
    """Rows of q, k and v that lie together for each key head: `group` heads of queries, then a key
    and a value. Here all queries part from all keys and all values."""
    pieces = ((0, group), (group, group + 1), (group + 1, group + 2))  # heads of q, k, v

    def part(rows: Any) -> Any:
        height = rows.shape[0]  # of [heads of q, k and v * head_dim], or of so many rows
        size = height // (num_kv_heads * (group + 2))
        starts = range(0, height, (group + 2) * size)
        order = [
            start + row
            for first, last in pieces
            for start in starts
            for row in range(first * size, last * size)
        ]
        return rows[order]

    return part
