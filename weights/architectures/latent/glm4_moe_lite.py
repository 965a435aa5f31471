"""GLM-4.7-Flash: DeepSeek V3's attention and experts; which layers are dense is listed.

llama.cpp knows it as `deepseek2`.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.grouped_experts import GroupedDefaults, grouped_experts
from thirdeye.weights.architectures.common.guessing import BEHIND_THE_LAST
from thirdeye.weights.architectures.latent import latent_family
from thirdeye.weights.architectures.latent.deepseek import DEEPSEEK_V3, MAX_GUESSING
from thirdeye.weights.architectures.latent.latent_family import LatentDefaults
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=154880,
    hidden_size=2048,
    intermediate_size=10240,
    num_hidden_layers=47,
    num_heads=20,
    max_position_embeddings=202752,
    norm_eps=1e-5,
)
LATENTS = LatentDefaults(key_size=192, value_size=256, query_size=768)
EXPERTS = GroupedDefaults(num_experts=64, num_chosen=4, intermediate_size=1536, scale=1.8)
KINDS = ("dense", "sparse")


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    fields.refuse("first_k_dense_replace", 1)  # transformers reads the list alone
    for key in ("num_nextn_predict_layers", "num_mtp_layers"):
        fields.integer(key, 0, low=0, high=MAX_GUESSING)
    spec = latent_family.huggingface_latents(fields, LATENTS)
    config = latent_family.huggingface_config(fields, "glm4_moe_lite", DEFAULTS, spec)
    experts = grouped_experts(fields, config, EXPERTS)
    return replace(config, experts=experts, dense_layers=_dense_layers(fields, config))


def _dense_layers(fields: Fields, config: ModelConfig) -> tuple[int, ...]:
    kinds = fields.raw("mlp_layer_types", None)
    if kinds is None:
        return (0,)
    if (
        not isinstance(kinds, list)
        or len(kinds) != config.num_hidden_layers
        or not all(kind in KINDS for kind in kinds)
    ):
        raise fields.error(
            "mlp_layer_types",
            f"must be a list of 'dense' or 'sparse' for each of {config.num_hidden_layers} layers.",
        )
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "dense")


GLM4_MOE_LITE = Architecture(
    models="GLM-4.7-Flash",
    model_types=("glm4_moe_lite",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=DEEPSEEK_V3.huggingface_names,
    guessing_names=BEHIND_THE_LAST,
)
