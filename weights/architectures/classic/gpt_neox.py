"""GPT-NeoX, Pythia and kin: attention and MLP side by side, a quarter of each head turned.

Each head's q, k and v lie together in files; GGUF has them apart.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import gguf_rope, huggingface_rope
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=50432,
    hidden_size=6144,
    num_hidden_layers=44,
    num_attention_heads=64,
    max_position_embeddings=2048,
    intermediate_size=24576,
    names={"norm_eps": "layer_norm_eps", "activation": "hidden_act"},
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = plain_family.huggingface_config(fields, "gpt_neox", SIZES)
    bias = fields.boolean("attention_bias", True)
    theta = fields.positive("rotary_emb_base", 10000.0)
    fraction = fields.positive("rotary_pct", 0.25)
    for key, own in (("rope_theta", theta), ("partial_rotary_factor", fraction)):
        fields.refuse(
            key, own
        )  # these models have names of their own, and transformers reads those
    context = config.max_position_embeddings
    return replace(
        config,
        rope=huggingface_rope(fields, config.head_dim, context, theta, fraction),
        qkv_bias=bias,
        attention_output_bias=bias,
        is_parallel=fields.boolean("use_parallel_residual", True),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    qkv = TensorTarget(
        "blocks.{i}.attention.qkv.weight", reorder=plain_names.parted_qkv(config.num_heads)
    )
    return plain_names.huggingface_names(
        config,
        layers="layers.{i}",
        layer={
            "attention.query_key_value": qkv,
            "attention.dense": "attention.output",
            "mlp.dense_h_to_4h": "mlp.up",
            "mlp.dense_4h_to_h": "mlp.down",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "mlp_norm",
        },
        top={"embed_in": "embed_tokens", "final_layer_norm": "final_norm"},
        head="embed_out",
        ignored=frozenset(  # causal masks and tables that old files carry along
            f"layers.{{i}}.attention.{name}"
            for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
        ),
        prefixes=("gpt_neox.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = plain_family.gguf_config(fields, file, vocab_size, "gpt_neox", Activation.GELU)
    bias = "blk.0.attn_qkv.bias" in file.tensors
    return replace(
        config,
        rope=gguf_rope(fields, file, config.head_dim, is_partial=True),
        qkv_bias=bias,
        attention_output_bias=bias,
        is_parallel=fields.boolean("use_parallel_residual", True),
    )


GPT_NEOX = Architecture(
    models="Pythia, GPT-NeoX 20B, Dolly 2, RedPajama-INCITE, Polyglot",
    model_types=("gpt_neox",),
    gguf_architectures=("gptneox",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=plain_names.gguf_names,
)
