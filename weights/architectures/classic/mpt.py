"""MPT: ALiBi instead of positions, no biases anywhere, q, k and v that may be cut."""

from dataclasses import replace

from thirdeye.model.config import Activation, Alibi, AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes, read_clip
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=50368,
    hidden_size=2048,
    num_hidden_layers=24,
    num_attention_heads=16,
    max_position_embeddings=2048,
    is_tied=True,
    names={
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "max_seq_len",
        "norm_eps": "layer_norm_epsilon",
    },
)
NORMS = ("layernorm", "low_precision_layernorm")


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("intermediate_size", "activation", "logit_scale"):
        fields.refuse(key)
    fields.refuse("no_bias", True)
    fields.refuse("expansion_ratio", 4)
    fields.refuse("norm_type", *NORMS)
    config = plain_family.huggingface_config(fields, "mpt", SIZES)
    settings = fields.nested("attn_config") or Fields(fields.path, {}, "attn_config.")
    for key, harmless in (
        ("attn_type", "multihead_attention"),
        ("alibi", True),
        ("prefix_lm", False),
        ("qk_ln", False),
        ("attn_uses_sequence_id", False),
    ):
        settings.refuse(key, harmless)
    return _unbiased(
        config,
        max_bias=settings.positive("alibi_bias_max", 8),
        scale=settings.positive("softmax_scale") if "softmax_scale" in settings else None,
        clip=read_clip(settings, "clip_qkv"),
    )


def _unbiased(
    config: ModelConfig, max_bias: float, scale: float | None, clip: float | None
) -> ModelConfig:
    spec = AttentionSpec(scale=scale, alibi=Alibi(max_bias))
    return replace(
        config,
        norm_bias=False,
        qkv_bias=False,
        attention_output_bias=False,
        mlp_bias=False,
        clip_qkv=clip,
        attention=(spec,) * config.num_hidden_layers,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    return plain_names.huggingface_names(
        config,
        layers="blocks.{i}",
        layer={
            "attn.Wqkv": "attention.qkv",
            "attn.out_proj": "attention.output",
            "ffn.up_proj": "mlp.up",
            "ffn.down_proj": "mlp.down",
            "norm_1": "attention_norm",
            "norm_2": "mlp_norm",
        },
        top={"wte": "embed_tokens", "norm_f": "final_norm"},
        prefixes=("transformer.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return _unbiased(
        plain_family.gguf_config(fields, file, vocab_size, "mpt", Activation.GELU),
        max_bias=fields.positive("attention.max_alibi_bias"),
        scale=None,
        clip=read_clip(fields, "attention.clamp_kqv"),
    )


MPT = Architecture(
    models="MPT 7B and 30B",
    model_types=("mpt",),
    gguf_architectures=("mpt",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=plain_names.gguf_names,
)
