"""The shape of every parameter part a model of a given config has, by its canonical name.

Linear weights are `[out, in]`. This is the same knowledge as the model's own, written a second time
on purpose: a checkpoint is checked against it before a byte of it reaches the model.
"""

from thirdeye.model.config import ModelConfig


def part_shape(config: ModelConfig, name: str, part: str | None) -> tuple[int, ...]:
    """Shape of the parameter `name`, or of its `part`. Raises KeyError for a name no model has."""
    stem, kind = name.removeprefix("blocks.").rsplit(".", 1)
    if name.startswith("blocks."):
        stem = stem.split(".", 1)[1]
    rows = _rows(config)[stem, part]
    columns = _columns(config).get(stem)
    return (rows,) if kind == "bias" or columns is None else (rows, columns)


def _rows(config: ModelConfig) -> dict[tuple[str, str | None], int]:
    hidden, intermediate = config.hidden_size, config.intermediate_size
    query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        ("embed_tokens", None): config.vocab_size,
        ("embed_positions", None): config.max_position_embeddings,
        ("attention_norm", None): hidden,
        ("attention.qkv", None): query + 2 * key,
        ("attention.qkv", "q"): query,
        ("attention.qkv", "k"): key,
        ("attention.qkv", "v"): key,
        ("attention.sinks", None): config.num_heads,
        ("attention.output", None): hidden,
        ("mlp_norm", None): hidden,
        ("mlp.gate_up", None): 2 * intermediate,
        ("mlp.gate_up", "gate"): intermediate,
        ("mlp.gate_up", "up"): intermediate,
        ("mlp.up", None): intermediate,
        ("mlp.down", None): hidden,
        ("final_norm", None): hidden,
        ("lm_head", None): config.vocab_size,
    }


def _columns(config: ModelConfig) -> dict[str, int]:
    hidden = config.hidden_size
    return {
        "embed_tokens": hidden,
        "embed_positions": hidden,
        "attention.qkv": hidden,
        "attention.output": config.num_heads * config.head_dim,
        "mlp.gate_up": hidden,
        "mlp.up": hidden,
        "mlp.down": config.intermediate_size,
        "lm_head": hidden,
    }
