"""A model that only remembers: what a real one would expect, and what it was given.

The names are written down a second time here: `tests/model/declare/test_declare.py` holds the
model's own declaration against them.
"""

import torch
from torch import Tensor

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.experts_spec import ExpertsSpec

Target = tuple[str, str | None]


def parameter_names(config: ModelConfig) -> set[Target]:
    """Every parameter part of a decoder of this shape, by the canonical names."""
    names: set[Target] = {("embed_tokens.weight", None)}
    if config.final_norm:
        names |= norm("final_norm", config)
    if config.embedding_norm:
        names |= norm("embed_norm", config)
    if config.embedding_size not in (None, config.hidden_size):
        names |= {("project_in.weight", None), ("project_out.weight", None)}
    if config.has_learned_positions:
        names.add(("embed_positions.weight", None))
    if not config.tie_word_embeddings:
        names |= linear("lm_head", config.head_bias, None)
    for layer in range(config.num_hidden_layers):
        block = f"blocks.{layer}"
        names |= norm(f"{block}.attention_norm", config)
        if not config.shares_norm:
            names |= norm(f"{block}.mlp_norm", config)
        names |= linear(f"{block}.attention.qkv", config.qkv_bias, "q", "k", "v")
        if config.qk_norm:
            names |= {
                (f"{block}.attention.qk_norm.{x}_norm.weight", None) for x in ("query", "key")
            }
        if config.head_qk_norm:
            counts = {"query": config.num_heads, "key": config.num_kv_heads}
            names |= {
                (f"{block}.attention.head_qk_norm.{x}_norm.weight", str(head))
                for x, count in counts.items()
                for head in range(count)
            }
        if config.attention_of(layer).sinks:
            names.add((f"{block}.attention.sinks.weight", None))
        names |= linear(f"{block}.attention.output", config.attention_output_bias, None)
        names |= mlp(f"{block}.mlp", config, config.experts_of(layer))
    return names


def mlp(name: str, config: ModelConfig, spec: ExpertsSpec | None) -> set[Target]:
    if spec is not None:
        return experts(name, config, spec)
    if config.gated_mlp:
        return gated(name, config.mlp_bias)
    names = linear(f"{name}.up", config.mlp_bias, None)
    if config.activation is Activation.XIELU:
        numbers = ("alpha_p", "alpha_n", "beta", "eps")
        names |= {(f"{name}.act.weight", number) for number in numbers}
    return names | linear(f"{name}.down", config.mlp_bias, None)


def experts(name: str, config: ModelConfig, spec: ExpertsSpec) -> set[Target]:
    names = linear(f"{name}.router.linear", spec.router_bias, None)
    if spec.expert_scales:
        names.add((f"{name}.router.expert_scales", None))
    if spec.choice_bias:
        names.add((f"{name}.router.choice_bias", None))
    for expert in range(spec.num_experts):
        names |= gated(f"{name}.experts.{expert}", spec.bias)
    if spec.shared_size:
        names |= gated(f"{name}.shared", config.mlp_bias)
    if spec.shared_gate:
        names |= linear(f"{name}.shared_gate", False, None)
    return names


def gated(name: str, bias: bool) -> set[Target]:
    return linear(f"{name}.gate_up", bias, "gate", "up") | linear(f"{name}.down", bias, None)


def norm(name: str, config: ModelConfig) -> set[Target]:
    if not config.norm_weight:
        return set()
    return linear(name, config.norm is Norm.LAYER_NORM and config.norm_bias, None)


def linear(name: str, bias: bool, *parts: str | None) -> set[Target]:
    kinds = ("weight", "bias") if bias else ("weight",)
    return {(f"{name}.{kind}", part) for kind in kinds for part in parts}


class RecordingSink:
    def __init__(self, config: ModelConfig) -> None:
        self.names = parameter_names(config)
        self.loaded: dict[Target, Tensor] = {}

    def expected(self) -> set[Target]:
        return set(self.names)

    def load(self, name: str, part: str | None, tensor: Tensor | StoredTensor) -> None:
        assert (name, part) not in self.loaded
        is_stored = isinstance(tensor, StoredTensor)
        self.loaded[name, part] = torch.from_numpy(tensor.widen()) if is_stored else tensor.clone()
