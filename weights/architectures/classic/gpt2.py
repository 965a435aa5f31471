"""GPT-2: learned positions, LayerNorm with biases, one fused q-k-v projection, a plain GELU MLP.

Hugging Face stores its linear layers as Conv1D, `[in, out]`; GGUF stores them `[out, in]`.
"""

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.activations import read_activation
from thirdeye.weights.architectures.common.limits import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCAB,
)
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

OTHER_NAMES = {  # which transformers takes too
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("scale_attn_weights", True)
    fields.refuse("scale_attn_by_inverse_layer_idx", False)
    fields.refuse("add_cross_attention", False)
    fields.refuse("is_causal", True)
    keys = {own: other if other in fields else own for own, other in OTHER_NAMES.items()}
    hidden_size = fields.integer(keys["n_embd"], 768, high=MAX_HIDDEN)
    return _config(
        fields,
        heads_key=keys["n_head"],
        vocab_size=fields.integer("vocab_size", 50257, high=MAX_VOCAB),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("n_inner", 4 * hidden_size, high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer(keys["n_layer"], 12, high=MAX_LAYERS),
        num_heads=fields.integer(keys["n_head"], 12, high=MAX_HEADS),
        max_position_embeddings=fields.integer(keys["n_positions"], 1024, high=MAX_POSITIONS),
        norm_eps=fields.positive("layer_norm_epsilon", 1e-5),
        activation=read_activation(fields, "activation_function", "gelu_new"),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", True),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return _config(
        fields,
        heads_key="attention.head_count",
        vocab_size=vocab_size,
        hidden_size=fields.integer("embedding_length", high=MAX_HIDDEN),
        intermediate_size=fields.integer("feed_forward_length", high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer("block_count", high=MAX_LAYERS),
        num_heads=fields.integer("attention.head_count", high=MAX_HEADS),
        max_position_embeddings=fields.integer("context_length", high=MAX_POSITIONS),
        norm_eps=fields.positive("attention.layer_norm_epsilon"),
        activation=Activation.GELU_TANH,
        tie_word_embeddings="output.weight" not in file.tensors,
    )


def _config(
    fields: Fields,
    *,
    heads_key: str,
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_heads: int,
    max_position_embeddings: int,
    norm_eps: float,
    activation: Activation,
    tie_word_embeddings: bool,
) -> ModelConfig:
    """What all GPT-2 models have in common."""
    if hidden_size % num_heads:
        raise fields.error(
            heads_key, f"{num_heads} heads do not divide the hidden size {hidden_size}."
        )
    return ModelConfig(
        architecture="gpt2",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        max_position_embeddings=max_position_embeddings,
        norm=Norm.LAYER_NORM,
        norm_eps=norm_eps,
        activation=activation,
        gated_mlp=False,
        rope=None,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        tie_word_embeddings=tie_word_embeddings,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    names = {
        "wte.weight": TensorTarget("embed_tokens.weight"),
        "wpe.weight": TensorTarget("embed_positions.weight"),
        "h.{i}.attn.c_attn.weight": TensorTarget(
            "blocks.{i}.attention.qkv.weight", is_transposed=True
        ),
        "h.{i}.attn.c_attn.bias": TensorTarget("blocks.{i}.attention.qkv.bias"),
        "h.{i}.attn.c_proj.weight": TensorTarget(
            "blocks.{i}.attention.output.weight", is_transposed=True
        ),
        "h.{i}.attn.c_proj.bias": TensorTarget("blocks.{i}.attention.output.bias"),
        "h.{i}.mlp.c_fc.weight": TensorTarget("blocks.{i}.mlp.up.weight", is_transposed=True),
        "h.{i}.mlp.c_fc.bias": TensorTarget("blocks.{i}.mlp.up.bias"),
        "h.{i}.mlp.c_proj.weight": TensorTarget("blocks.{i}.mlp.down.weight", is_transposed=True),
        "h.{i}.mlp.c_proj.bias": TensorTarget("blocks.{i}.mlp.down.bias"),
        **with_bias(
            {
                "h.{i}.ln_1.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
                "h.{i}.ln_2.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
                "ln_f.weight": TensorTarget("final_norm.weight"),
            }
        ),
    }
    ignored = {
        "h.{i}.attn.bias",
        "h.{i}.attn.masked_bias",
    }  # causal masks that old files carry along
    if config.tie_word_embeddings:
        ignored.add("lm_head.weight")  # a copy of the embedding
    else:
        names["lm_head.weight"] = TensorTarget("lm_head.weight")
    return NameTable(names, frozenset(ignored), config.num_hidden_layers, ("transformer.",))


def gguf_names(config: ModelConfig) -> NameTable:
    names = {
        "token_embd.weight": TensorTarget("embed_tokens.weight"),
        "position_embd.weight": TensorTarget("embed_positions.weight"),
        "output.weight": TensorTarget("lm_head.weight"),
        **with_bias(
            {
                "blk.{i}.attn_norm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
                "blk.{i}.attn_qkv.weight": TensorTarget("blocks.{i}.attention.qkv.weight"),
                "blk.{i}.attn_output.weight": TensorTarget("blocks.{i}.attention.output.weight"),
                "blk.{i}.ffn_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
                "blk.{i}.ffn_up.weight": TensorTarget("blocks.{i}.mlp.up.weight"),
                "blk.{i}.ffn_down.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
                "output_norm.weight": TensorTarget("final_norm.weight"),
            }
        ),
    }
    return NameTable(names, frozenset(), config.num_hidden_layers)


GPT2 = Architecture(
    models="GPT-2, DistilGPT-2, Cerebras-GPT, GPT-SW3",
    model_types=("gpt2",),
    gguf_architectures=("gpt2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
