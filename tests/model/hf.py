"""From a transformers model to ours: config and weights, for parity tests only.

The product's own reader is in `weights/`; this one is small, so that a disagreement points at the
model.
"""

import re

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.config import Activation, ModelConfig, Norm, RopeConfig, RopeScaling
from thirdeye.model.transformer import Transformer

ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "silu": Activation.SILU,
}
GPT2_NAMES = {
    "wte": "embed_tokens",
    "wpe": "embed_positions",
    "ln_f": "final_norm",
    "ln_1": "attention_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.output",
    "ln_2": "mlp_norm",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}
LLAMA_NAMES = {
    "embed_tokens": "embed_tokens",
    "norm": "final_norm",
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.qkv|q",
    "self_attn.k_proj": "attention.qkv|k",
    "self_attn.v_proj": "attention.qkv|v",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "mlp_norm",
    "mlp.gate_proj": "mlp.gate_up|gate",
    "mlp.up_proj": "mlp.gate_up|up",
    "mlp.down_proj": "mlp.down",
}


def gpt2_config(hf: GPT2LMHeadModel) -> ModelConfig:
    c = hf.config
    return ModelConfig(
        architecture="gpt2",
        vocab_size=c.vocab_size,
        hidden_size=c.n_embd,
        intermediate_size=c.n_inner or 4 * c.n_embd,
        num_hidden_layers=c.n_layer,
        num_heads=c.n_head,
        num_kv_heads=c.n_head,
        head_dim=c.n_embd // c.n_head,
        max_position_embeddings=c.n_positions,
        norm=Norm.LAYER_NORM,
        norm_eps=c.layer_norm_epsilon,
        activation=ACTIVATIONS[c.activation_function],
        gated_mlp=False,
        rope=None,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        tie_word_embeddings=c.tie_word_embeddings,
    )


def llama_config(hf: LlamaForCausalLM) -> ModelConfig:
    c = hf.config
    return ModelConfig(
        architecture="llama",
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_heads=c.num_attention_heads,
        num_kv_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        max_position_embeddings=c.max_position_embeddings,
        norm=Norm.RMS_NORM,
        norm_eps=c.rms_norm_eps,
        activation=ACTIVATIONS[c.hidden_act],
        gated_mlp=True,
        rope=rope_config(c.rope_parameters, c.head_dim),
        qkv_bias=c.attention_bias,
        attention_output_bias=c.attention_bias,
        mlp_bias=c.mlp_bias,
        tie_word_embeddings=c.tie_word_embeddings,
    )


def rope_config(parameters: dict[str, float | str], dim: int) -> RopeConfig:
    fields = dict(parameters)
    theta, kind = fields.pop("rope_theta"), fields.pop("rope_type")
    scaling = None if kind == "default" else RopeScaling(kind=kind, **fields)
    return RopeConfig(theta=theta, dim=dim, scaling=scaling)


def convert(
    hf: GPT2LMHeadModel | LlamaForCausalLM, attention: AttentionBackend
) -> tuple[Transformer, set[tuple[str, str | None]]]:
    """Our model with the same weights, and the (name, part) pairs that were pushed into it."""
    is_gpt2 = isinstance(hf, GPT2LMHeadModel)
    config = gpt2_config(hf) if is_gpt2 else llama_config(hf)
    model = Transformer(config, attention, dtype=torch.float32, device=torch.device("cpu"))
    poison(model)
    pushed: set[tuple[str, str | None]] = set()
    for hf_name, parameter in hf.named_parameters():  # a tied head is not named twice
        name, part = rename(hf_name, GPT2_NAMES if is_gpt2 else LLAMA_NAMES)
        is_conv1d = is_gpt2 and "c_" in hf_name and parameter.dim() == 2  # stored [in, out]
        model.load(name, part, parameter.T if is_conv1d else parameter)
        pushed.add((name, part))
    model.finish()
    return model, pushed


def poison(model: Transformer) -> None:
    """A parameter that is never filled shows up as NaN instead of as luck."""
    for parameter in model.parameters():
        parameter.fill_(torch.nan)


def rename(hf_name: str, names: dict[str, str]) -> tuple[str, str | None]:
    """E.g. model.layers.3.self_attn.q_proj.weight -> blocks.3.attention.qkv.weight, part q."""
    if hf_name == "lm_head.weight":
        return hf_name, None
    path, kind = hf_name.split(".", 1)[1].rsplit(".", 1)
    layer = re.match(r"(?:h|layers)\.(\d+)\.", path)
    prefix = f"blocks.{layer[1]}." if layer else ""
    new, _, part = names[path[layer.end() :] if layer else path].partition("|")
    return f"{prefix}{new}.{kind}", part or None


def random_weights(hf: GPT2LMHeadModel | LlamaForCausalLM) -> None:
    """Fill every parameter, biases and norms too: transformers would leave them at 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for parameter in hf.parameters():
        noise: Tensor = torch.randn(parameter.shape, generator=generator) * 0.1
        parameter.copy_(noise + 1 if parameter.dim() == 1 else noise)
