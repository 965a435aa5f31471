"""GPT-BigCode, StarCoder 1, SantaCoder: GPT-2 whose heads may all share one key and value head."""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import gpt2, plain_family, plain_names
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = replace(gpt2.SIZES, activation="gelu_pytorch_tanh")


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("scale_attn_weights", True)
    config = plain_family.huggingface_config(fields, "gpt_bigcode", SIZES)
    is_shared = fields.boolean("multi_query", True)
    return replace(config, num_kv_heads=1 if is_shared else config.num_heads)


def huggingface_names(config: ModelConfig) -> NameTable:
    is_shared = config.num_kv_heads < config.num_heads  # then q, k and v are apart already
    qkv = TensorTarget(
        "blocks.{i}.attention.qkv.weight",
        reorder=None if is_shared else plain_names.parted_qkv(config.num_heads),
    )
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "attn.c_attn": qkv,
            "attn.c_proj": "attention.output",
            "mlp.c_fc": "mlp.up",
            "mlp.c_proj": "mlp.down",
            **gpt2.NORMS,
        },
        top=gpt2.TOP,
        ignored=gpt2.MASKS,
        prefixes=("transformer.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return plain_family.gguf_config(fields, file, vocab_size, "gpt_bigcode", Activation.GELU_TANH)


GPT_BIGCODE = Architecture(
    models="StarCoder 1, SantaCoder",
    model_types=("gpt_bigcode",),
    gguf_architectures=("starcoder",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=plain_names.gguf_names,
)
