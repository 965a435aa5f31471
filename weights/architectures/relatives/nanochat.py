"""nanochat: no norm has a weight, embeddings and turned queries and keys are normed as well, the
MLP is `down(relu(up x)^2)`, and logits are capped.

Heads are turned the other way around, which is the usual way for their halves exchanged.
"""

from dataclasses import replace
from typing import Any

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
    TensorTarget,
    with_bias,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=50304,
    hidden_size=768,
    intermediate_size=8192,
    num_hidden_layers=12,
    num_heads=6,
    max_position_embeddings=2048,
    activation="relu2",
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = llama_family.huggingface_config(fields, "nanochat", DEFAULTS)
    spec = AttentionSpec(rope=config.rope, unit_norm_eps=config.norm_eps)
    is_capped = not fields.is_null("final_logit_softcapping")
    return replace(
        config,
        gated_mlp=False,
        norm_weight=False,
        norm_bias=False,
        embedding_norm=True,
        attention=(spec,) * config.num_hidden_layers,
        logit_softcap=fields.positive("final_logit_softcapping", 15.0) if is_capped else None,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    mlp = with_bias(
        {
            "mlp.fc1.weight": TensorTarget("blocks.{i}.mlp.up.weight"),
            "mlp.fc2.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
        }
    )
    return llama_names.huggingface_names(
        config,
        mlp,
        reorder_query=halves_exchanged(config.num_heads),
        reorder_key=halves_exchanged(config.num_kv_heads),
    )


def halves_exchanged(num_heads: int) -> Reorder:
    """Of the rows of each head."""

    def exchange(rows: Any) -> Any:
        head_dim = len(rows) // num_heads
        return rows[
            [
                start + (channel + head_dim // 2) % head_dim
                for start in range(0, len(rows), head_dim)
                for channel in range(head_dim)
            ]
        ]

    return exchange


NANOCHAT = Architecture(
    models="nanochat",
    model_types=("nanochat",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
