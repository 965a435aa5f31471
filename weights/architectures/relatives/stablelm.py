"""StableLM: a Llama with LayerNorms that turns a quarter of each head.

StableLM 2 12B has parallel blocks, and norms queries and keys, each head by itself.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
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


HEAD_NORMS = "blocks.{i}.attention.head_qk_norm"


def huggingface_config(fields: Fields) -> ModelConfig:
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
        head_qk_norm=fields.boolean("qk_layernorm", False),
        is_parallel=is_parallel,
        shares_norm=is_parallel,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    """The norms of heads are tensors of their own."""
    table = llama_names.with_norm_biases(llama_names.huggingface_names(config))
    names = {
        f"layers.{{i}}.self_attn.{theirs}_layernorm.norms.{head}.weight": TensorTarget(
            f"{HEAD_NORMS}.{ours}_norm.weight", str(head), is_row=True
        )
        for theirs, ours, count in (
            ("q", "query", config.num_heads),
            ("k", "key", config.num_kv_heads),
        )
        for head in range(count)
    }
    return replace(table, names={**table.names, **names})


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """llama.cpp sees by the second norm whether attention and MLP stand side by side."""
    config = llama_family.gguf_config(
        fields, file, vocab_size, "stablelm", norm=Norm.LAYER_NORM, is_partly_rotary=True
    )
    is_parallel = "blk.0.ffn_norm.weight" not in file.tensors
    has_head_norms = "blk.0.attn_q_norm.weight" in file.tensors
    return replace(
        config, is_parallel=is_parallel, shares_norm=is_parallel, head_qk_norm=has_head_norms
    )


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.with_norm_biases(llama_names.gguf_names(config))
    names = {
        "blk.{i}.attn_q_norm.weight": TensorTarget(f"{HEAD_NORMS}.query_norm.weight"),
        "blk.{i}.attn_k_norm.weight": TensorTarget(f"{HEAD_NORMS}.key_norm.weight"),
    }
    return replace(table, names={**table.names, **names})


STABLELM = Architecture(
    models="StableLM 2 and 3B",
    model_types=("stablelm",),
    gguf_architectures=("stablelm",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
