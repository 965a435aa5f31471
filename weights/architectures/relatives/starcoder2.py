"""StarCoder2: a Llama with LayerNorms, a plain GELU MLP, biases everywhere, maybe windows."""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import SLIDING, windows
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=49152,
    hidden_size=3072,
    intermediate_size=12288,
    num_hidden_layers=30,
    num_heads=24,
    num_kv_heads=2,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    norm_eps_key="norm_epsilon",
    activation="gelu_pytorch_tanh",
    is_tied=True,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):
        fields.refuse(key, False)  # `use_bias` is this class's
    fields.refuse("layer_types")
    config = llama_family.huggingface_config(fields, "starcoder2", DEFAULTS)
    bias = fields.boolean("use_bias", True)
    has_window = "sliding_window" in fields
    window = fields.integer("sliding_window", high=MAX_POSITIONS) if has_window else None
    return replace(
        config,
        norm=Norm.LAYER_NORM,
        gated_mlp=False,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=bias,
        attention=windows([SLIDING] * config.num_hidden_layers, config.rope, window),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    mlp = {
        "mlp.c_fc.weight": TensorTarget("blocks.{i}.mlp.up.weight"),
        "mlp.c_proj.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
    }
    return llama_names.with_norm_biases(llama_names.huggingface_names(config, with_bias(mlp)))


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """llama.cpp knows no windows of these models."""
    config = llama_family.gguf_config(fields, file, vocab_size, "starcoder2", norm=Norm.LAYER_NORM)
    return replace(config, gated_mlp=False, activation=Activation.GELU_TANH)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.with_norm_biases(llama_names.gguf_names(config))


STARCODER2 = Architecture(
    models="StarCoder2",
    model_types=("starcoder2",),
    gguf_architectures=("starcoder2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
