"""Falcon-H1: in each layer attention and Mamba-2 read one norm, and what they make is added up.

Many fixed multipliers stand around its matrices. Those of embeddings and logits are the config's,
as others have them; all others are multiplied into the weights as these are loaded, as llama.cpp's
converter does, whose files have them all inside.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import MAX_KERNEL, MAX_STATE_SIZE, Mamba2Spec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.limits import MAX_HEADS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.states import mamba2
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=128_000,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=8,
    max_position_embeddings=8192,
    norm_eps=1e-5,
)
STATE = "blocks.{i}.state"
MLP = {"mlp": "feed_forward", "post_attention_layernorm": "pre_ff_layernorm"}
MIXED = ("z", "x", "B", "C", "dt")  # of the states' projection, in its order


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("hidden_act", "silu")
    config = llama_family.huggingface_config(fields, "falcon_h1", DEFAULTS)
    scaled = replace(
        config,
        embedding_scale=fields.positive("embedding_multiplier", 1.0),
        logit_scale=fields.positive("lm_head_multiplier", 1.0),
        weight_scales=scales(fields),
    )
    return _with_states(scaled, _spec(fields, config.hidden_size))


def _spec(fields: Fields, hidden_size: int) -> Mamba2Spec:
    heads = fields.integer("mamba_n_heads", 128, high=MAX_HEADS)
    width = fields.integer("mamba_expand", 2, high=64) * hidden_size
    if not fields.is_null("mamba_d_ssm"):
        width = fields.integer("mamba_d_ssm", 1024, high=MAX_HEADS * MAX_STATE_SIZE)
    mamba2.refuse_step_limits(fields)
    has_norm = fields.boolean("mamba_rms_norm", False)
    is_norm_first = fields.boolean("mamba_norm_before_gate", True)
    return mamba2.spec_of(
        fields,
        "mamba_n_heads",
        num_heads=heads,
        num_groups=fields.integer("mamba_n_groups", 1, high=MAX_HEADS),
        head_size=mamba2.head_size(fields, width, heads),
        state_size=fields.integer("mamba_d_state", 256, high=MAX_STATE_SIZE),
        kernel=fields.integer("mamba_d_conv", 4, low=2, high=MAX_KERNEL),
        conv_bias=fields.boolean("mamba_conv_bias", True),
        input_bias=fields.boolean("mamba_proj_bias", False),
        output_bias=fields.boolean("projectors_bias", False),
        has_norm=has_norm,
        gates_first=not (has_norm and is_norm_first),
    )


def _with_states(config: ModelConfig, spec: Mamba2Spec) -> ModelConfig:
    layers = tuple(range(config.num_hidden_layers))
    return replace(config, state=spec, state_layers=layers, state_beside=True)


def scales(fields: Fields) -> tuple[tuple[str, float], ...]:
    """Of weights, and of biases where theirs is another."""
    before, key, after = (
        fields.positive(f"{name}_multiplier", 1.0)
        for name in ("attention_in", "key", "attention_out")
    )
    gate, down = _several(fields, "mlp_multipliers", 2)
    ssm_in, ssm_out = (fields.positive(f"ssm_{name}_multiplier", 1.0) for name in ("in", "out"))
    mixed = dict(zip(MIXED, _several(fields, "ssm_multipliers", 5), strict=True))
    found = {"q": before, "k": before * key, "v": before, "o": after, "gate": gate, "down": down}
    found |= {name: scale * ssm_in for name, scale in mixed.items()} | {"out": ssm_out}
    found |= {"q.bias": 1.0, "k.bias": key, "v.bias": 1.0, "o.bias": after, "gate.bias": gate}
    found |= {"down.bias": down, "out.bias": ssm_out}
    found |= {f"{name}.bias": scale for name, scale in mixed.items()}
    return tuple(found.items())


def _several(fields: Fields, key: str, count: int) -> list[float]:
    listed = fields.raw(key, [1.0] * count)
    if not isinstance(listed, list) or len(listed) != count:
        raise fields.error(key, f"must be {count} numbers.")
    each = Fields(fields.path, {f"{key}.{i}": value for i, value in enumerate(listed)})
    return [each.positive(f"{key}.{i}") for i in range(count)]


def huggingface_names(config: ModelConfig) -> NameTable:
    table, by_name = llama_names.huggingface_names(config), dict(config.weight_scales)
    leaves = {
        "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
        "self_attn.o_proj": "o", "mlp.gate_proj": "gate", "mlp.down_proj": "down",
    }  # fmt: skip
    layer = {
        name.removeprefix("layers.{i}."): target
        for name, target in table.names.items()
        if name.startswith("layers.{i}.") and isinstance(target, TensorTarget)
    }
    for module, leaf in leaves.items():
        for kind, scale in (("weight", by_name[leaf]), ("bias", by_name[f"{leaf}.bias"])):
            if (name := f"{module}.{kind}") in layer:
                layer[name] = replace(layer[name], scale=scale)
    names: dict[str, TensorTarget | tuple[TensorTarget, ...]] = {
        "embed_tokens.weight": TensorTarget("embed_tokens.weight"),
        "final_layernorm.weight": TensorTarget("final_norm.weight"),
        "lm_head.weight": TensorTarget("lm_head.weight"),
    }
    if config.tie_word_embeddings:
        del names["lm_head.weight"]
    for name, target in layer.items():
        module, _, rest = name.partition(".")
        names[f"layers.{{i}}.{MLP.get(module, module)}.{rest}"] = target
    own = mamba2.huggingface_layer(mamba2.mamba2(config), STATE, by_name)
    names |= {f"layers.{{i}}.mamba.{name}": target for name, target in own.items()}
    return replace(table, names=names)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "falcon_h1")
    return _with_states(config, mamba2.gguf_spec(fields, file, range(config.num_hidden_layers)))


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(config, mamba2.gguf_layer(mamba2.mamba2(config), STATE))


FALCON_H1 = Architecture(
    models="Falcon-H1",
    model_types=("falcon_h1",),
    gguf_architectures=("falcon-h1",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
