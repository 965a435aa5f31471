"""InternLM 3: a Llama whose biases have switches of other names, `qkv_bias` and `bias`.

In its own code the first is of queries, keys and values and the second of the rest; transformers
reads both as Llama's, and only where they are equal, which they are in what was published.
llama.cpp calls it a Llama.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=128512,
    hidden_size=4096,
    intermediate_size=10240,
    num_hidden_layers=48,
    num_heads=32,
    num_kv_heads=2,
    max_position_embeddings=32768,
    head_dim=128,
    norm_eps=1e-5,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "internlm3", DEFAULTS)
    has_biases = fields.boolean("qkv_bias", config.qkv_bias)
    if has_biases != fields.boolean("bias", config.mlp_bias):
        raise fields.error("qkv_bias", "must be as 'bias' is: there are no other models.")
    return replace(
        config, qkv_bias=has_biases, attention_output_bias=has_biases, mlp_bias=has_biases
    )


INTERNLM3 = Architecture(
    models="InternLM 3",
    model_types=("internlm3",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
)
