"""Nemotron-H's GGUF files: what a layer is, its tensors say.

Those with experts have a name of their own, and the width of experts where others have that of
their MLPs. llama.cpp's converter interleaves rows of q and k although nothing turns them.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.common.experts import (
    CHOICE_BIAS,
    DOWN,
    GGUF_SIGMOID,
    MLP,
    ROUTER,
    UNGATED_UP,
    size,
)
from thirdeye.weights.architectures.common.grouped_experts import gguf_grouped_experts
from thirdeye.weights.architectures.common.limits import MAX_INTERMEDIATE
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.architectures.llama import llama_family
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.states import mamba2
from thirdeye.weights.architectures.states.layers import (
    overlaid,
    stateless_layers,
    with_states,
    without_positions,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

WIDTHS = "feed_forward_length"  # a number a layer, 0 where there is no MLP


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    plain, others = stateless_layers(fields)
    fields.refuse("moe_latent_size", 0)
    fields.refuse("nextn_predict_layers", 0)
    fields.refuse("rope.scaling.finetuned", False)  # llama.cpp's sign for positions
    states = tuple(i for i in others if f"blk.{i}.ssm_in.weight" in file.tensors)
    mlps = tuple(i for i in others if i not in states)
    if not mlps:
        raise fields.error("attention.head_count_kv", "leaves no layer with an MLP.")
    sparse = [i for i in mlps if f"blk.{i}.ffn_gate_inp.weight" in file.tensors]
    plain = overlaid(plain, {WIDTHS: _width(fields, plain)})
    config = llama_family.gguf_config(plain, file, vocab_size, "nemotron_h", has_experts=True)
    config = replace(
        without_positions(config),
        activation=Activation.RELU2,
        gated_mlp=False,
        lone_mlps=mlps,
        mlp_bias=any(f"blk.{i}.ffn_up.bias" in file.tensors for i in mlps),
    )
    if sparse:
        dense = tuple(i for i in mlps if i not in sparse)
        spec = _experts(fields, config)
        width = (
            file.tensors[f"blk.{dense[0]}.ffn_up.weight"].shape[0] if dense else spec.shared_size
        )
        config = replace(config, experts=spec, dense_layers=dense, intermediate_size=width)
    else:
        fields.refuse("expert_count", 0)
    state = mamba2.gguf_spec(fields, file, states)
    return with_states(fields, "attention.head_count_kv", config, state, states)


def _width(fields: Fields, plain: Fields) -> int:
    widths = fields.raw(WIDTHS)
    if not hasattr(widths, "__len__") or isinstance(widths, str):
        return plain.integer(WIDTHS, high=MAX_INTERMEDIATE)
    found = {int(width) for width in widths} - {0}
    if len(found) != 1:
        raise fields.error(WIDTHS, "must say 0 or one other number for each layer.")
    return min(found)


def _experts(fields: Fields, config: ModelConfig) -> ExpertsSpec:
    fields.refuse("expert_gating_func", GGUF_SIGMOID)
    fields.integer("expert_shared_count", 1, high=1)
    shared_size = size(fields, "expert_shared_feed_forward_length", 0)
    return gguf_grouped_experts(fields, config, shared_size)


def gguf_names(config: ModelConfig) -> NameTable:
    table = LLAMA.gguf_names(replace(config, experts=None))
    own = with_bias(
        {
            "ffn_up.weight": TensorTarget(f"{MLP}.up.weight"),
            "ffn_down.weight": TensorTarget(f"{MLP}.down.weight"),
        }
    )
    more = {
        "ffn_gate_inp.weight": ROUTER,
        "exp_probs_b.bias": CHOICE_BIAS,
        "ffn_up_exps.weight": UNGATED_UP,
        "ffn_down_exps.weight": DOWN,
        "ffn_up_shexp.weight": TensorTarget(f"{MLP}.shared.up.weight"),
        "ffn_down_shexp.weight": TensorTarget(f"{MLP}.shared.down.weight"),
        **mamba2.gguf_layer(mamba2.mamba2(config)),
    }
    names = {f"blk.{{i}}.{name}": target for name, target in {**own, **more}.items()}
    num_experts = config.experts.num_experts if config.experts else 0
    return replace(table, names={**table.names, **names}, num_experts=num_experts)
