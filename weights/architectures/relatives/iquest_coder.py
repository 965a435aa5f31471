"""IQuest Coder: a Llama whose heads are 128 wide where its config does not say otherwise."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=76800,
    hidden_size=5120,
    intermediate_size=27648,
    num_hidden_layers=80,
    num_heads=40,
    num_kv_heads=8,
    max_position_embeddings=131072,
    head_dim=128,
    norm_eps=1e-5,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("clip_qkv")  # its authors' code has both, and no model
    fields.refuse("use_sliding_window", False)
    head_dim = None if fields.is_null("head_dim") else DEFAULTS.head_dim
    defaults = replace(DEFAULTS, head_dim=head_dim)
    return llama_family.huggingface_config(fields, "iquestcoder", defaults)


IQUEST_CODER = Architecture(
    models="IQuest Coder",
    model_types=("iquestcoder",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
)
