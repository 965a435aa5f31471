"""What Qwen's models with a gated delta net share: their settings and their tensors' names.

Three layers of four keep a state, the fourth attends: its queries come with gates, head by head,
and it turns a quarter of each head. Norms are kept less 1, but for the one of the states' heads.
llama.cpp puts value heads that share a key head apart in some of its files (`is_tiled`), and keeps
the decay where transformers keeps its logarithm.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import MAX_KERNEL, MAX_STATE_SIZE, DeltaNetSpec
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.limits import MAX_HEADS, MAX_INTERMEDIATE, MAX_LAYERS
from thirdeye.weights.architectures.common.name_table import NameTable, Reorder, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, HEAD_NORMS
from thirdeye.weights.architectures.states.layers import overlaid, per_layer, with_states
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

Targets = dict[str, TensorTarget | tuple[TensorTarget, ...]]
LINEAR = "linear_attention"
RECURRENT = "attention.recurrent_layers"  # newer converters write it
ATTENTION = "blocks.{i}.attention"
UNREAD = (
    "mtp.",
    "model.mtp.",
)  # it guesses more tokens: `common/guessing_head.py`
DECAY, SHIFT = TensorTarget(f"{ATTENTION}.heads.decay"), TensorTarget(f"{ATTENTION}.heads.shift")
TAPS = TensorTarget(f"{ATTENTION}.conv.weight")
GAIN = TensorTarget(f"{ATTENTION}.norm.weight")
OUTPUT = TensorTarget(f"{ATTENTION}.output.weight")


def huggingface_config(fields: Fields, architecture: str, defaults: Defaults) -> ModelConfig:
    """Without experts."""
    fields.refuse("mlp_bias", False)  # no setting of these classes
    fields.refuse("hidden_act", "silu")
    config = llama_family.huggingface_config(fields, architecture, defaults)
    num_layers = config.num_hidden_layers
    interval = fields.integer("full_attention_interval", 4, high=MAX_LAYERS)
    by_rule = [LINEAR if (layer + 1) % interval else FULL for layer in range(num_layers)]
    kinds = per_layer(fields, "layer_types", by_rule, (FULL, LINEAR))
    spec = _spec(
        fields,
        "linear_num_value_heads",
        num_key_heads=fields.integer("linear_num_key_heads", 16, high=MAX_HEADS),
        num_value_heads=fields.integer("linear_num_value_heads", 32, high=MAX_HEADS),
        key_size=fields.integer("linear_key_head_dim", 128, high=MAX_STATE_SIZE),
        value_size=fields.integer("linear_value_head_dim", 128, high=MAX_STATE_SIZE),
        kernel=fields.integer("linear_conv_kernel_dim", 4, low=2, high=MAX_KERNEL),
    )
    layers = tuple(layer for layer, kind in enumerate(kinds) if kind == LINEAR)
    gated = replace(config, qk_norm=True, attention_gate=True)
    return with_states(fields, "layer_types", gated, spec, layers)


def _spec(fields: Fields, key: str, **settings: Any) -> DeltaNetSpec:
    try:
        return DeltaNetSpec(**settings)
    except ValueError as error:
        raise fields.error(key, f"does not fit the others: {error}") from None


def huggingface_names(config: ModelConfig) -> NameTable:
    """Without those by which the delta net is projected, and of experts."""
    table = llama_names.with_norm_offset(llama_names.huggingface_names(config, HEAD_NORMS))
    names: Targets = {
        **{f"self_attn.q_proj.{leaf}": gated_query(config, leaf) for leaf in ("weight", "bias")},
        "linear_attn.A_log": replace(DECAY, reorder=decay_of),
        "linear_attn.dt_bias": SHIFT,
        "linear_attn.conv1d.weight": replace(TAPS, is_depthwise=True),
        "linear_attn.norm.weight": GAIN,
        "linear_attn.out_proj.weight": OUTPUT,
    }
    own = {f"layers.{{i}}.{name}": target for name, target in names.items()}
    return replace(table, names={**table.names, **own}, ignored_prefixes=UNREAD)


def gated_query(config: ModelConfig, leaf: str) -> tuple[TensorTarget, TensorTarget]:
    """Of each head first the query's rows, then its gates'."""
    heads, size = config.num_heads, config.head_dim

    def half(number: int) -> Reorder:
        return lambda rows: rows[_of_heads(heads, (size, size), number)]

    both = 2 * heads * size
    return (
        TensorTarget(f"{ATTENTION}.qkv.{leaf}", "q", reorder=half(0), num_stored_rows=both),
        TensorTarget(f"{ATTENTION}.gate.{leaf}", reorder=half(1), num_stored_rows=both),
    )


def gated_qkv(config: ModelConfig, leaf: str) -> tuple[TensorTarget, ...]:
    """The same of a layer that attends, with keys and values behind them in one tensor."""
    size = config.num_kv_heads * config.head_dim
    first = 2 * config.num_heads * config.head_dim
    height = first + 2 * size

    def rows_of(target: TensorTarget) -> Reorder:
        pick = target.reorder
        assert pick is not None
        return lambda rows: pick(rows[:first])

    name = f"{ATTENTION}.qkv.{leaf}"
    behind = (("k", slice(first, first + size)), ("v", slice(first + size, height)))
    return (
        *(
            replace(target, reorder=rows_of(target), num_stored_rows=height)
            for target in gated_query(config, leaf)
        ),
        *(
            TensorTarget(name, part, reorder=itemgetter(rows), num_stored_rows=height)
            for part, rows in behind
        ),
    )


def merged_qkv(config: ModelConfig) -> tuple[TensorTarget, ...]:
    """Queries, keys and values of all heads, one after the other: the model has z beside them."""
    spec = delta_net(config)
    keys = spec.num_key_heads * spec.key_size

    def between(first: int, last: int) -> Reorder:
        return lambda rows: rows[first:last]

    ends = {"q": (0, keys), "k": (keys, 2 * keys), "v": (2 * keys, spec.channels)}
    name, height = f"{ATTENTION}.project.weight", spec.channels
    return tuple(
        TensorTarget(name, part, reorder=between(*own), num_stored_rows=height)
        for part, own in ends.items()
    )


def by_key_head(sizes: Sequence[int], num_key_heads: int) -> Reorder:
    """Of rows that each key head has some of, of several kinds one after the other: first all of
    the first kind."""

    def parted(stored: Any) -> Any:
        kinds = range(len(sizes))
        return stored[[row for kind in kinds for row in _of_heads(num_key_heads, sizes, kind)]]

    return parted


def _of_heads(num_heads: int, sizes: Sequence[int], kind: int) -> list[int]:
    """The rows of one kind, where each head has so many of each. Made when a tensor of so many is
    there: a description may say any number."""
    first, height = sum(sizes[:kind]), sum(sizes)
    own = range(first, first + sizes[kind])
    return [head * height + row for head in range(num_heads) for row in own]


def decay_of(logarithm: Any) -> Any:
    """What the exponent of forgetting is multiplied by: transformers keeps its logarithm."""
    return -logarithm.float().exp()


def delta_net(config: ModelConfig) -> DeltaNetSpec:
    """Of a model that has one, or of no size where every layer attends."""
    return config.state if isinstance(config.state, DeltaNetSpec) else DeltaNetSpec(1, 1, 1, 1, 2)


def gguf_config(
    fields: Fields, file: GGUFFile, vocab_size: int, architecture: str, *, is_tiled: bool
) -> ModelConfig:
    """Without experts, and without layers that guess more tokens."""
    key, num_more = "block_count", fields.integer("nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    num_layers = fields.integer(key, high=MAX_LAYERS) - num_more
    if num_layers < 1:
        raise fields.error("nextn_predict_layers", f"leaves no layer of {num_layers + num_more}.")
    instead = {key: num_layers}
    if "feed_forward_length" not in fields:  # all layers have experts
        width = fields.integer("expert_shared_feed_forward_length", 1, high=MAX_INTERMEDIATE)
        instead["feed_forward_length"] = width
    plain = overlaid(fields, instead)
    config = llama_family.gguf_config(
        plain, file, vocab_size, architecture, has_experts=True, is_partly_rotary=True
    )
    heads = fields.integer("ssm.time_step_rank", high=MAX_HEADS)
    inner = fields.integer("ssm.inner_size", high=MAX_HEADS * MAX_STATE_SIZE)
    if inner % heads:
        raise fields.error("ssm.inner_size", f"must be a multiple of {heads} heads, got {inner}.")
    num_key_heads = fields.integer("ssm.group_count", high=MAX_HEADS)
    spec = _spec(
        fields,
        "ssm.time_step_rank",
        num_key_heads=num_key_heads,
        num_value_heads=heads,
        key_size=fields.integer("ssm.state_size", high=MAX_STATE_SIZE),
        value_size=inner // heads,
        kernel=fields.integer("ssm.conv_kernel", low=2, high=MAX_KERNEL),
        is_tiled=is_tiled and num_key_heads != heads,
    )
    key, layers = _gguf_layers(fields, num_layers, num_more)
    first = next((layer for layer in range(num_layers) if layer not in layers), 0)
    bias = any(f"blk.{first}.attn_{kind}.bias" in file.tensors for kind in ("q", "qkv"))
    output_bias = f"blk.{first}.attn_output.bias" in file.tensors
    gated = replace(
        config,
        qk_norm=True,
        attention_gate=True,
        qkv_bias=bias,
        attention_output_bias=output_bias,
    )
    return with_states(fields, key, gated, spec, layers)


def _gguf_layers(fields: Fields, num_layers: int, num_more: int) -> tuple[str, tuple[int, ...]]:
    """The layers that keep a state, and the setting that says so: listed, with those behind the
    last that guess more tokens, or all but every nth."""
    listed = fields.raw(RECURRENT, None)
    if listed is None:
        interval = fields.integer("full_attention_interval", 4, high=MAX_LAYERS)
        key = "nextn_predict_layers" if num_more else "full_attention_interval"
        return key, tuple(layer for layer in range(num_layers) if (layer + 1) % interval)
    is_list = hasattr(listed, "__len__") and not isinstance(listed, str)
    if not is_list or len(listed) != num_layers + num_more or any(listed[num_layers:]):
        behind = f"the {num_more} behind the last ('nextn_predict_layers')"
        more = f", and no for {behind}" if num_more else ""
        raise fields.error(RECURRENT, f"must say yes or no for {num_layers} layers{more}.")
    return RECURRENT, tuple(layer for layer in range(num_layers) if listed[layer])


def gguf_names(config: ModelConfig) -> NameTable:
    """Without those of b and a, and of experts."""
    table = llama_names.gguf_names(config, GGUF_HEAD_NORMS)
    names: Targets = {
        **{f"attn_q.{leaf}": gated_query(config, leaf) for leaf in ("weight", "bias")},
        "post_attention_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
        "attn_qkv.weight": merged_qkv(config),
        "attn_gate.weight": TensorTarget(f"{ATTENTION}.project.weight", "z"),
        "ssm_a": DECAY,
        "ssm_dt.bias": SHIFT,
        "ssm_conv1d.weight": TAPS,
        "ssm_norm.weight": GAIN,
        "ssm_out.weight": OUTPUT,
    }
    own = {f"blk.{{i}}.{name}": target for name, target in names.items()} | {
        f"blk.{layer}.attn_qkv.{leaf}": gated_qkv(config, leaf)
        for layer in config.attending_layers
        for leaf in ("weight", "bias")
    }
    return replace(table, names={**table.names, **own}, ignored_layers=1)
