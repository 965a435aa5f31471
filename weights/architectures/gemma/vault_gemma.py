"""VaultGemma: a Gemma 2 without norms behind attention and MLP."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.gemma import gemma2
from thirdeye.weights.architectures.gemma.gemma import gemma_names
from thirdeye.weights.formats.fields import Fields

NORMS = {name: at for name, at in gemma2.NORMS.items() if "post_norm" not in at}


def huggingface_config(fields: Fields) -> ModelConfig:
    config = gemma2.huggingface_config(fields)
    return replace(config, architecture="vaultgemma", post_norm=False)


def huggingface_names(config: ModelConfig) -> NameTable:
    table = gemma_names(config, NORMS)
    names = dict(table.names)
    del names["layers.{i}.post_attention_layernorm.weight"]  # Llama's name for another norm
    return replace(table, names=names)


VAULT_GEMMA = Architecture(
    models="VaultGemma",
    model_types=("vaultgemma",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
