"""GPT-Neo, and with it TinyStories: GPT-2 whose scores are not scaled, and every second of whose
layers sees a window. Queries, keys and values have no biases."""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields

SIZES = Sizes(
    vocab_size=50257,
    hidden_size=2048,
    num_hidden_layers=24,
    num_attention_heads=16,
    max_position_embeddings=2048,
    activation="gelu_new",
    is_tied=True,
    names={
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "norm_eps": "layer_norm_epsilon",
        "activation": "activation_function",
    },
)
GLOBAL, LOCAL = KINDS = ("global", "local")
USUAL = [[[GLOBAL, LOCAL], 12]]
MASKS = frozenset(f"h.{{i}}.attn.attention.{name}" for name in ("bias", "masked_bias"))


def huggingface_config(fields: Fields) -> ModelConfig:
    config = plain_family.huggingface_config(fields, "gpt_neo", SIZES)
    window = fields.integer("window_size", 256, high=MAX_POSITIONS)
    whole = AttentionSpec(scale=1.0)
    kinds = _kinds(fields, config.num_hidden_layers)
    attention = tuple(replace(whole, window=window if k == LOCAL else None) for k in kinds)
    return replace(config, attention=attention, qkv_bias=False)


def _kinds(fields: Fields, num_layers: int) -> list[str]:
    """`attention_types`: pairs of some layers in a row, and how often they come."""
    kinds: list[str] = []
    listed = fields.raw("attention_types", USUAL)
    problem = f"must be pairs, as [[['global', 'local'], 12]], of {num_layers} layers in all."
    for pair in listed if isinstance(listed, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], list)):
            raise fields.error("attention_types", problem)
        some, often = pair
        if type(often) is not int or not 0 <= often <= MAX_LAYERS:
            raise fields.error("attention_types", problem)
        if len(kinds) + often * len(some) > num_layers:
            raise fields.error("attention_types", problem)
        kinds += some * often
    if len(kinds) != num_layers or not all(kind in KINDS for kind in kinds):
        raise fields.error("attention_types", problem)
    fields.refuse("attention_layers", kinds)  # the same once more, a layer each
    return kinds


def huggingface_names(config: ModelConfig) -> NameTable:
    qkv = "blocks.{i}.attention.qkv.weight"
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "attn.attention.q_proj": TensorTarget(qkv, "q"),
            "attn.attention.k_proj": TensorTarget(qkv, "k"),
            "attn.attention.v_proj": TensorTarget(qkv, "v"),
            "attn.attention.out_proj": "attention.output",
            "mlp.c_fc": "mlp.up",
            "mlp.c_proj": "mlp.down",
            "ln_1": "attention_norm",
            "ln_2": "mlp_norm",
        },
        top={"wte": "embed_tokens", "wpe": "embed_positions", "ln_f": "final_norm"},
        ignored=MASKS,
        prefixes=("transformer.",),
    )


GPT_NEO = Architecture(
    models="GPT-Neo 125M to 2.7B, TinyStories",
    model_types=("gpt_neo",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
