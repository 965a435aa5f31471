"""StableLM: a Llama with LayerNorms that turns a quarter of each head; maybe a parallel block."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.weights.architectures import llama_family, llama_names
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama_family import Defaults
from thirdeye.weights.architectures.name_table import NameTable
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=50304,
    hidden_size=2560,
    intermediate_size=6912,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=32,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    norm_eps_key="layer_norm_eps",
    rotary_fraction=0.25,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("qk_layernorm", False)
    for key in ("attention_bias", "mlp_bias"):
        fields.refuse(key, False)  # `use_qkv_bias` is this class's
    config = llama_family.huggingface_config(fields, "stablelm", DEFAULTS)
    if config.head_dim * config.num_heads != config.hidden_size:
        raise fields.error("head_dim", "must be the hidden size over the number of heads.")
    is_parallel = fields.boolean("use_parallel_residual", False)
    return replace(
        config,
        norm=Norm.LAYER_NORM,
        qkv_bias=fields.boolean("use_qkv_bias", False),
        is_parallel=is_parallel,
        shares_norm=is_parallel,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return llama_names.with_norm_biases(llama_names.huggingface_names(config))


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """llama.cpp sees by the second norm whether attention and MLP stand side by side."""
    config = llama_family.gguf_config(
        fields, file, vocab_size, "stablelm", norm=Norm.LAYER_NORM, is_partly_rotary=True
    )
    is_parallel = "blk.0.ffn_norm.weight" not in file.tensors
    return replace(config, is_parallel=is_parallel, shares_norm=is_parallel)


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.with_norm_biases(llama_names.gguf_names(config))


STABLELM = Architecture(
    models="StableLM 2 (1.6B) and 3B",
    model_types=("stablelm",),
    gguf_architectures=("stablelm",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
