"""OPT: GPT-2 with a ReLU, whose learned positions start at the table's third row.

OPT 350M alone norms the stream after each addition, and has narrower embeddings.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.limits import MAX_HIDDEN
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields

SIZES = Sizes(
    vocab_size=50272,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    max_position_embeddings=2048,
    intermediate_size=3072,
    activation="relu",
    is_tied=True,
    names={"intermediate_size": "ffn_dim", "activation": "activation_function"},
)
OFFSET = 2  # rows for a padding token, which nobody reads here


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("norm_eps")  # none of this class's settings: always 1e-5
    config = plain_family.huggingface_config(fields, "opt", SIZES)
    width = fields.integer("word_embed_proj_dim", config.hidden_size, high=MAX_HIDDEN)
    is_before = fields.boolean("do_layer_norm_before", True)
    bias = fields.boolean("enable_bias", True)
    has_weight = fields.boolean("layer_norm_elementwise_affine", True)
    return replace(
        config,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=bias,
        norm_weight=has_weight,
        norm_bias=has_weight,
        pre_norm=is_before,
        norms_stream=not is_before,
        final_norm=is_before and not fields.boolean("_remove_final_layer_norm", False),
        embedding_size=None if width == config.hidden_size else width,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    qkv = "blocks.{i}.attention.qkv.weight"
    positions = TensorTarget("embed_positions.weight", first_row=OFFSET)
    return plain_names.huggingface_names(
        config,
        layers="layers.{i}",
        layer={
            "self_attn.q_proj": TensorTarget(qkv, "q"),
            "self_attn.k_proj": TensorTarget(qkv, "k"),
            "self_attn.v_proj": TensorTarget(qkv, "v"),
            "self_attn.out_proj": "attention.output",
            "fc1": "mlp.up",
            "fc2": "mlp.down",
            "self_attn_layer_norm": "attention_norm",
            "final_layer_norm": "mlp_norm",
        },
        top={
            "embed_tokens": "embed_tokens",
            "embed_positions": positions,
            "final_layer_norm": "final_norm",
            "project_in": "project_in",
            "project_out": "project_out",
        },
        prefixes=("model.decoder.", "decoder."),
    )


OPT = Architecture(
    models="OPT",
    model_types=("opt",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
