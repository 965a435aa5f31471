"""SmolLM3: a Llama in which every fourth layer leaves its queries and keys unturned."""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import FULL
from thirdeye.weights.architectures.common.limits import MAX_LAYERS
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=11008,
    num_hidden_layers=36,
    num_heads=16,
    num_kv_heads=4,
    max_position_embeddings=32768,
    rope_theta=2e6,
    is_tied=True,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "smollm3", DEFAULTS)
    num_layers = config.num_hidden_layers
    fields.refuse("use_sliding_window", False)
    fields.refuse("layer_types", [FULL] * num_layers)
    step = fields.integer("no_rope_layer_interval", 4, high=MAX_LAYERS)
    turned = fields.raw("no_rope_layers", _every_nth_unturned(num_layers, step))
    if not isinstance(turned, list) or len(turned) != num_layers or set(map(str, turned)) - {*"01"}:
        raise fields.error("no_rope_layers", f"must be 0 or 1 for each of {num_layers} layers.")
    return _with_turns(config, turned)


def _every_nth_unturned(num_layers: int, n: int) -> list[int]:
    return [int((layer + 1) % n != 0) for layer in range(num_layers)]


def _with_turns(config: ModelConfig, turned: list[int]) -> ModelConfig:
    """One number a layer: 0 for those that leave their heads as they are."""
    attention = tuple(AttentionSpec(rope=config.rope if is_on else None) for is_on in turned)
    return replace(config, attention=attention)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "smollm3")
    return _with_turns(config, _every_nth_unturned(config.num_hidden_layers, 4))


SMOLLM3 = Architecture(
    models="SmolLM3",
    model_types=("smollm3",),
    gguf_architectures=("smollm3",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,
)
