"""GPT-2: learned positions, LayerNorm with biases, one fused q-k-v projection, a plain GELU MLP.

Hugging Face stores its linear layers as Conv1D, `[in, out]`; GGUF stores them `[out, in]`.
"""

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import GPT2_NAMES, Sizes
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=50257,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    max_position_embeddings=1024,
    activation="gelu_new",
    is_tied=True,
    names=GPT2_NAMES,
)
MASKS = frozenset(f"h.{{i}}.attn.{name}" for name in ("bias", "masked_bias"))  # old files' buffers
NORMS = {"ln_1": "attention_norm", "ln_2": "mlp_norm"}
TOP = {"wte": "embed_tokens", "wpe": "embed_positions", "ln_f": "final_norm"}


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("scale_attn_weights", True)
    fields.refuse("scale_attn_by_inverse_layer_idx", False)
    return plain_family.huggingface_config(fields, "gpt2", SIZES)


def huggingface_names(config: ModelConfig) -> NameTable:
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "attn.c_attn": _transposed("attention.qkv"),
            "attn.c_proj": _transposed("attention.output"),
            "mlp.c_fc": _transposed("mlp.up"),
            "mlp.c_proj": _transposed("mlp.down"),
            **NORMS,
        },
        top=TOP,
        ignored=MASKS,
        prefixes=("transformer.",),
    )


def _transposed(name: str) -> TensorTarget:
    return TensorTarget(f"blocks.{{i}}.{name}.weight", is_transposed=True)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return plain_family.gguf_config(fields, file, vocab_size, "gpt2", Activation.GELU_TANH)


GPT2 = Architecture(
    models="GPT-2, DistilGPT-2, Cerebras-GPT, GPT-SW3",
    model_types=("gpt2",),
    gguf_architectures=("gpt2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=plain_names.gguf_names,
)
