"""Llama: rotary positions, RMSNorm, grouped-query attention, a gated SiLU MLP.

SmolLM2 and many others are Llamas by shape, and XVERSE is one in all but its name. In GGUF the
rows of q and k are interleaved, and Mixtrals go by this name; InternLM 2 has a name of its own
there, and Llama's tensors.
"""

from dataclasses import replace
from functools import partial

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    GGUF_EXPERTS,
    GGUF_ONE_BY_ONE,
    gguf_experts,
    with_experts,
)
from thirdeye.weights.architectures.common.name_table import NameTable, rotate_half_rows
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Of a Mixtral as well, which has experts."""
    config = llama_family.gguf_config(fields, file, vocab_size, "llama", has_experts=True)
    if not fields.raw("expert_count", 0):
        return config
    return replace(config, experts=gguf_experts(fields, config, is_renormalized=True))


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.gguf_names(
        config,
        reorder_query=rotate_half_rows(config.num_heads),
        reorder_key=rotate_half_rows(config.num_kv_heads),
    )
    if not config.experts:
        return table
    return with_experts(table, config, GGUF_EXPERTS | GGUF_ONE_BY_ONE)


LLAMA = Architecture(
    models="Llama 1 to 3.3, SmolLM, SmolLM2, TinyLlama, XVERSE and many that are Llamas by shape",
    model_types=("llama",),
    other_types=("xverse",),
    gguf_architectures=("llama", "xverse", "internlm2"),
    huggingface_config=partial(
        llama_family.huggingface_config, architecture="llama", defaults=DEFAULTS
    ),
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
