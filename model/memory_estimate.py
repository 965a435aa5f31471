"""How much memory a model will take in each form that its weights can be kept in, from its config
alone: no torch, no weights. What a step needs besides is not counted."""

import math
from dataclasses import dataclass
from functools import partial

from thirdeye.model.config import ModelConfig
from thirdeye.model.parameter_counts import (
    ParameterCounts,
    num_in_head_matrices,
    parameter_counts,
)
from thirdeye.model.state.kv_groups import KVGroups, kv_groups, room

INT4_BITS_WITH_SCALES = 4 + 16 / 128  # a float16 scale for each group of 128
BLOCK_SIZE = 16  # tokens: a window begins anywhere in one


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """`quantize` and `device` as a user would set them; bytes."""

    quantize: str
    device: str
    weights: int
    kv_per_token: int
    kv_of_context: int  # of one text of the whole context: layers with a window keep that alone


@dataclass(frozen=True, slots=True)
class FileSizes:
    """Bytes of a file whose own blocks are multiplied."""

    table: int  # the embeddings
    others: int
    widened: int = 0  # of the others, what is not multiplied as it is stored


def memory_estimates(config: ModelConfig, file: FileSizes | None = None) -> list[MemoryEstimate]:
    """A row for each form, as `thirdeye serve` keeps it with its other settings left alone. `file`:
    one that has blocks which a CPU can multiply as they are stored."""
    counts, groups = parameter_counts(config), kv_groups(config)
    estimate = partial(_estimate, config, counts, groups)
    return [
        *([_as_stored(config, groups, file)] if file else []),
        estimate("none", "CPU, float32", bits=32, dense=4, kv=4),
        estimate("int8", "CPU, float32", bits=8, dense=4, kv=2),
        estimate("none", "GPU, bfloat16", bits=16, dense=2, kv=2),
        estimate("int8", "GPU, bfloat16", bits=8, dense=2, kv=2),
        estimate("fp8", "GPU, bfloat16", bits=8, dense=2, kv=2),
        estimate("int4", "GPU, bfloat16", bits=INT4_BITS_WITH_SCALES, dense=2, kv=2),
    ]


def int8_kv_per_token(config: ModelConfig) -> int:
    """Bytes of a token's keys and values with `--kv-dtype int8`: each vector has a scale."""
    return config.kv_numbers + 4 * config.kv_vectors


def kv_of_context(config: ModelConfig, kv_per_token: int, num_tokens: int | None = None) -> int:
    """Bytes that a text of the whole context keeps, or of so many tokens, by what one token takes
    in all layers."""
    groups = kv_groups(config)
    return _kept(config, groups, kv_per_token, num_tokens or config.max_position_embeddings)


def _kept(config: ModelConfig, groups: KVGroups, kv_per_token: int, context: int) -> int:
    numbers, _ = room(config, groups)
    kept = [min(context, window + BLOCK_SIZE) if window else context for window in groups.windows]
    return kv_per_token * numbers * sum(kept) // max(config.kv_numbers, 1)


def bytes_per_state(config: ModelConfig) -> int:
    """What the layers that keep a state keep of one sequence, all together, in float32."""
    arrays = {} if config.state is None else config.state.arrays
    size = sum(math.prod(shape) for shape in arrays.values())
    return len(config.state_layers) * size * 4


def _as_stored(config: ModelConfig, groups: KVGroups, file: FileSizes) -> MemoryEstimate:
    """The table is looked up in fp32, unless fewer bits say the same, and is the head as stored."""
    table = config.vocab_size * config.hidden_size * 4
    head = file.table if config.tie_word_embeddings else 0
    kv_per_token = 2 * config.kv_numbers
    others = file.others - file.widened + 4 * num_in_head_matrices(config)
    kept = _kept(config, groups, kv_per_token, config.max_position_embeddings)
    weights = others + table + head
    return MemoryEstimate("stored", "CPU, float32", weights, kv_per_token, kept)


def _estimate(
    config: ModelConfig,
    counts: ParameterCounts,
    groups: KVGroups,
    quantize: str,
    device: str,
    *,
    bits: float,
    dense: int,
    kv: int,
) -> MemoryEstimate:
    """`bits` of a weight of a linear layer, `dense` bytes of one of the rest and `kv` of a number
    of the cache. A head that is quantized is there besides the embeddings it is tied to."""
    linear = counts.attention + counts.state + counts.mlp - num_in_head_matrices(config)
    head = counts.head
    if quantize != "none" and config.tie_word_embeddings:
        head = config.vocab_size * config.hidden_size
    rest = counts.total - linear - counts.head
    weights = linear * bits / 8 + head * max(bits, 8) / 8 + rest * dense
    kv_per_token = config.kv_numbers * kv
    kept = _kept(config, groups, kv_per_token, config.max_position_embeddings)
    return MemoryEstimate(quantize, device, round(weights), kv_per_token, kept)
