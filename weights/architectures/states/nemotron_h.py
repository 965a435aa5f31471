"""Nemotron-H and Nemotron 3: a layer is Mamba-2, or attention without positions, or an MLP, or
experts; each reads the stream by a norm of its own.

MLP and experts have no gate: relu squared. Routers are DeepSeek V3's. Which layer is what stands in
a list, in older files in a string of a letter a layer.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.state_spec import MAX_KERNEL, MAX_STATE_SIZE, Mamba2Spec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    CHOICE_BIAS,
    DOWN,
    MLP,
    ROUTER,
    UNGATED_UP,
    size,
)
from thirdeye.weights.architectures.common.grouped_experts import GroupedDefaults, grouped_experts
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.limits import MAX_HEADS, MAX_LAYERS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.states import mamba2
from thirdeye.weights.architectures.states.delta_net import LINEAR, UNREAD
from thirdeye.weights.architectures.states.layers import (
    overlaid,
    per_layer,
    with_states,
    without_positions,
)
from thirdeye.weights.architectures.states.nemotron_h_gguf import gguf_config, gguf_names
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=131_072,
    hidden_size=4096,
    intermediate_size=21504,
    num_hidden_layers=4,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    norm_eps_key="layer_norm_epsilon",
    activation="relu2",
    activation_key="mlp_hidden_act",
    has_ropes_by_kind=True,  # it has none
)
EXPERTS = GroupedDefaults(num_experts=8, num_chosen=2, intermediate_size=7688)
DENSE, SPARSE = "mlp", "moe"
LETTERS = {"M": LINEAR, "*": FULL, "-": DENSE, "E": SPARSE}
OLD_NAMES = {"mamba": LINEAR, "attention": FULL}
LISTS = ("layers_block_type", "layer_types")  # two names for one setting
PATTERN = "hybrid_override_pattern"
OLDER = {  # of settings: their names in older files, which come first
    "n_groups": "mamba_n_groups",
    "conv_kernel": "mamba_d_conv",
    "use_conv_bias": "mamba_conv_bias",
    "time_step_limit": "mamba_dt_limit",
}
ATTENTION = "blocks.{i}.attention"


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mamba_proj_bias"):  # these classes look at neither
        fields.refuse(key, False)
    for key in ("sliding_window", "moe_latent_size"):
        fields.refuse(key)
    fields.refuse("mamba_hidden_act", "silu")
    fields.refuse("residual_in_fp32", False)
    kinds = _kinds(fields)
    plain = overlaid(fields, {"num_hidden_layers": len(kinds)})
    config = llama_family.huggingface_config(plain, "nemotron_h", DEFAULTS)
    layers = {kind: tuple(i for i, own in enumerate(kinds) if own == kind) for kind in {*kinds}}
    mlps = tuple(sorted(layers.get(DENSE, ()) + layers.get(SPARSE, ())))
    if not mlps:
        raise fields.error(LISTS[0], "leaves no layer with an MLP, which is not supported.")
    if FULL not in layers:
        raise fields.error(LISTS[0], "leaves no layer that attends, which is not supported.")
    config = replace(without_positions(config), gated_mlp=False, lone_mlps=mlps)
    if SPARSE in layers:
        experts, dense = _experts(fields, config), layers.get(DENSE, ())
        width = config.intermediate_size if dense else experts.shared_size  # no layer is dense
        config = replace(config, experts=experts, dense_layers=dense, intermediate_size=width)
    return with_states(fields, LISTS[0], config, _state(fields), layers.get(LINEAR, ()))


def _kinds(fields: Fields) -> list[str]:
    found = next((key for key in LISTS if key in fields), None)
    if found is None and PATTERN in fields:
        letters = fields.text(PATTERN)
        if not 1 <= len(letters) <= MAX_LAYERS or {*letters} - LETTERS.keys():
            raise fields.error(PATTERN, f"must be letters of {''.join(LETTERS)}, one a layer.")
        return [LETTERS[letter] for letter in letters]
    key = found or LISTS[0]
    listed = fields.raw(key, [LINEAR, SPARSE, FULL, DENSE])
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_LAYERS:
        raise fields.error(key, "must be a list, one kind a layer.")
    kinds = per_layer(fields, key, listed, (*LETTERS.values(), *OLD_NAMES))
    for other in LISTS:
        fields.refuse(other, kinds)
    return [OLD_NAMES.get(kind, kind) for kind in kinds]


def _state(fields: Fields) -> Mamba2Spec:
    names = {new: old if old in fields else new for new, old in OLDER.items()}
    mamba2.refuse_step_limits(fields, names["time_step_limit"])
    bias = fields.boolean("use_bias", False)
    return mamba2.spec_of(
        fields,
        "mamba_num_heads",
        num_heads=fields.integer("mamba_num_heads", 128, high=MAX_HEADS),
        num_groups=fields.integer(names["n_groups"], 8, high=MAX_HEADS),
        head_size=fields.integer("mamba_head_dim", 64, high=MAX_STATE_SIZE),
        state_size=fields.integer("ssm_state_size", 128, high=MAX_STATE_SIZE),
        kernel=fields.integer(names["conv_kernel"], 4, low=2, high=MAX_KERNEL),
        conv_bias=fields.boolean(names["use_conv_bias"], True),
        input_bias=bias,
        output_bias=bias,
    )


def _experts(fields: Fields, config: ModelConfig) -> ExpertsSpec:
    fields.refuse("mlp_bias", False)  # which only what all tokens take would have
    shared_size = size(fields, "moe_shared_expert_intermediate_size", 7688)
    return grouped_experts(fields, config, EXPERTS, shared_size=shared_size)


def huggingface_names(config: ModelConfig) -> NameTable:
    linear = with_bias(
        {
            "up_proj.weight": TensorTarget(f"{MLP}.up.weight"),
            "down_proj.weight": TensorTarget(f"{MLP}.down.weight"),
        }
    )
    mixer: dict[str, TensorTarget | tuple[TensorTarget, ...]] = {
        **linear,
        **{f"{part}_proj.weight": TensorTarget(f"{ATTENTION}.qkv.weight", part) for part in "qkv"},
        "o_proj.weight": TensorTarget(f"{ATTENTION}.output.weight"),
        "gate.weight": ROUTER,
        "gate.e_score_correction_bias": CHOICE_BIAS,
        "experts.{e}.up_proj.weight": UNGATED_UP,
        "experts.{e}.down_proj.weight": DOWN,
        "shared_experts.up_proj.weight": TensorTarget(f"{MLP}.shared.up.weight"),
        "shared_experts.down_proj.weight": TensorTarget(f"{MLP}.shared.down.weight"),
        **mamba2.huggingface_layer(mamba2.mamba2(config)),
    }
    names: dict[str, TensorTarget | tuple[TensorTarget, ...]] = {
        "layers.{i}.norm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        "embeddings.weight": TensorTarget("embed_tokens.weight"),
        "norm_f.weight": TensorTarget("final_norm.weight"),
        "lm_head.weight": TensorTarget("lm_head.weight"),
    }
    names |= {f"layers.{{i}}.mixer.{name}": target for name, target in mixer.items()}
    return NameTable(
        names,
        frozenset({"lm_head.weight"}) if config.tie_word_embeddings else frozenset(),
        config.num_hidden_layers,
        ("backbone.", "model."),
        num_experts=config.experts.num_experts if config.experts else 0,
        ignored_prefixes=UNREAD,
    )


NEMOTRON_H = Architecture(
    models="Nemotron-H, Nemotron Nano 2, Nemotron 3 Nano",
    model_types=("nemotron_h",),
    gguf_architectures=("nemotron_h", "nemotron_h_moe"),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
