"""Gemma 4: heads of two sizes, normed values that may be the keys, a scale behind each layer.

Five layers of six see a window of keys with smaller heads; the sixth sees all keys, turns a quarter
of its channel pairs, and may take its keys, as they are projected, for values. Norms' weights are
kept as they are, and scores are not divided.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import chosen, count, size
from thirdeye.weights.architectures.common.layer_types import (
    FULL,
    SLIDING,
    by_kind,
    every_nth_full,
    read_layer_types,
    read_window,
)
from thirdeye.weights.architectures.common.limits import MAX_HIDDEN, MAX_VOCAB
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import huggingface_rope_of, proportional
from thirdeye.weights.architectures.gemma.gemma import gemma_config
from thirdeye.weights.architectures.gemma.gemma2 import NORMS, read_cap
from thirdeye.weights.architectures.gemma.gemma4_gguf import gguf_config, gguf_names
from thirdeye.weights.architectures.gemma.gemma4_heads import (
    Heads,
    gemma4_config,
    heads_of,
    shared,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.gemma.gemma4_names import (
    DENSE,
    DENSE_NORM,
    DENSE_POST_NORM,
    DOWN,
    EXPERT_SCALES,
    EXPERTS_NORM,
    EXPERTS_POST_NORM,
    GATE_UP,
    INPUT_NORM,
    INPUT_PROJECTION,
    INPUT_TABLE,
    OWN_GATE,
    OWN_NORM,
    OWN_PROJECTION,
    ROUTER,
    ROUTER_NORM,
    with_experts_beside,
    with_layer_inputs,
    without_shared,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import HEAD_NORMS
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=262144,
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=30,
    num_heads=8,
    num_kv_heads=4,
    max_position_embeddings=131072,
    head_dim=256,
    activation="gelu_pytorch_tanh",
    activation_key="hidden_activation",
    is_tied=True,
    has_ropes_by_kind=True,
)
INPUTS = {
    "embed_tokens_per_layer.weight": INPUT_TABLE,
    "per_layer_model_projection.weight": INPUT_PROJECTION,
    "per_layer_projection_norm.weight": INPUT_NORM,
}
OF_INPUT = {
    "layers.{i}.per_layer_input_gate.weight": OWN_GATE,
    "layers.{i}.per_layer_projection.weight": OWN_PROJECTION,
    "layers.{i}.post_per_layer_input_norm.weight": OWN_NORM,
}
SHARED = [  # what a layer that reads another's keys and values may have, and nobody needs
    *(f"layers.{{i}}.self_attn.{name}.weight" for name in ("k_proj", "v_proj", "k_norm", "v_norm")),
    *(f"layers.{{i}}.self_attn.{name}.bias" for name in ("k_proj", "v_proj")),
]
NUM_SHARED = "num_kv_shared_layers"
EXPERTS = {
    **{f"mlp.{name}_proj.weight": target for name, target in DENSE.items()},
    "pre_feedforward_layernorm.weight": DENSE_NORM,
    "post_feedforward_layernorm_1.weight": DENSE_POST_NORM,
    "pre_feedforward_layernorm_2.weight": EXPERTS_NORM,
    "post_feedforward_layernorm_2.weight": EXPERTS_POST_NORM,
    "router.proj.weight": ROUTER,
    "router.scale": ROUTER_NORM,
    "router.per_expert_scale": EXPERT_SCALES,
    "experts.gate_up_proj": GATE_UP,
    "experts.down_proj": DOWN,
}
UNIFIED = replace(DEFAULTS, max_position_embeddings=262144)
THETAS = {FULL: 1e6, SLIDING: 1e4}
FULL_FRACTION = 0.25
OLDER = ("rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor")
LAYER = {
    **{name: TensorTarget(place) for name, place in NORMS.items()},
    **HEAD_NORMS,
    "layer_scalar": TensorTarget("blocks.{i}.layer_scale.weight"),
}


def huggingface_config(fields: Fields) -> ModelConfig:
    config = layers_config(fields, DEFAULTS, window=512)
    config = replace(config, layer_input_size=layer_input_size(fields, config))
    if not fields.boolean("enable_moe_block", False):
        return config
    num_experts = count(fields, "num_experts", 0, config)
    num_chosen = chosen(fields, "top_k_experts", 0, num_experts)
    return with_experts(config, num_experts, num_chosen, size(fields, "moe_intermediate_size", 0))


def unified_config(fields: Fields) -> ModelConfig:
    """Of the class that sees and hears without towers, whose layers have the stream alone."""
    fields.refuse("hidden_size_per_layer_input", 0)
    fields.refuse("enable_moe_block", False)
    return layers_config(fields, UNIFIED, window=1024)


def layers_config(fields: Fields, defaults: Defaults, *, window: int) -> ModelConfig:
    """Without experts, and without what layers are told besides. `window`: the default."""
    fields.refuse("use_bidirectional_attention", "vision")  # of pictures' tokens alone
    for key in ("mlp_bias", *OLDER):
        fields.refuse(key, False)  # transformers does not read them in this class
    config = gemma_config(llama_family.huggingface_config(fields, "gemma4", defaults))
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, 6))
    kinds[-1] = FULL  # whatever it says, as in transformers
    keys_are_values = fields.boolean("attention_k_eq_v", False)
    heads = heads_of(fields, config, kinds, keys_are_values=keys_are_values)
    near, full = (
        spec_of(heads[kind], rope_of(fields, kind, heads[kind], config)) for kind in (SLIDING, FULL)
    )
    near = replace(near, window=read_window(fields, window))
    full = replace(full, has_values=not keys_are_values)
    cap = read_cap(fields, "final_logit_softcapping", None)
    num_shared = fields.integer("num_kv_shared_layers", 0, low=0, high=config.num_hidden_layers)
    attention = shared(
        fields, "num_kv_shared_layers", by_kind(kinds, full, near), kinds, num_shared
    )
    config = gemma4_config(config, attention, cap)
    if not (num_shared and fields.boolean("use_double_wide_mlp", False)):
        return config
    width = config.intermediate_size
    sizes = [width] * (len(kinds) - num_shared) + [2 * width] * num_shared
    return replace(config, mlp_sizes=tuple(sizes))


def layer_input_size(fields: Fields, config: ModelConfig) -> int:
    """0: there are none, as where it is null."""
    if fields.is_null("hidden_size_per_layer_input"):
        return 0
    size = fields.integer("hidden_size_per_layer_input", 256, low=0, high=MAX_HIDDEN)
    num_rows = fields.integer("vocab_size_per_layer_input", 262144, high=MAX_VOCAB)
    if size and num_rows != config.vocab_size:
        raise fields.error(
            "vocab_size_per_layer_input",
            f"must equal 'vocab_size' ({config.vocab_size}), got {num_rows}.",
        )
    return size


def rope_of(fields: Fields, kind: str, heads: Heads, config: ModelConfig) -> RopeConfig:
    """Of the layers of one kind."""
    by_kind = fields.nested("rope_parameters")
    parameters = None if by_kind is None else by_kind.nested(kind)
    if parameters is None and kind == FULL:
        return proportional(fields, THETAS[FULL], heads.head_dim, FULL_FRACTION)
    if parameters is None or parameters.text("rope_type", "default") != "proportional":
        context = config.max_position_embeddings
        return huggingface_rope_of(fields, kind, heads.head_dim, context, THETAS[kind])
    return proportional(
        parameters,
        parameters.positive("rope_theta", THETAS[kind]),
        heads.head_dim,
        parameters.positive("partial_rotary_factor", 1.0),
        parameters.positive("factor", 1.0),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    table = llama_names.huggingface_names(config, LAYER)
    table = with_layer_inputs(table, config, INPUTS, OF_INPUT)
    return with_experts_beside(without_shared(table, config, SHARED), config, EXPERTS)


GEMMA4 = Architecture(
    models="Gemma 4: E2B, E4B, 26B-A4B, 31B (text)",
    model_types=("gemma4_text",),
    gguf_architectures=("gemma4",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
GEMMA4_UNIFIED = replace(
    GEMMA4,
    models="Gemma 4: 12B (text)",
    model_types=("gemma4_unified_text",),
    gguf_architectures=(),  # those of the others read its files
    huggingface_config=unified_config,
)
