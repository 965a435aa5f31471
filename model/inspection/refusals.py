"""What cannot be told of some models, and why: by their config, before anything is computed."""

from thirdeye.model.config import ModelConfig

HEADS_ALONE = (  # what takes a layer's attention for the sum of its heads
    *("q", "k", "v", "rot_q", "rot_k", "scores", "z", "result", "value_norms"),
    *("attribution", "head_scores"),
)

KEYS_ALONE = ("q", "k", "v", "rot_q", "rot_k", "value_norms")  # what takes it for heads' own


def refusals(config: ModelConfig) -> dict[str, str]:
    """The names of parts that such a model does not have -> why."""
    found: dict[str, str] = {}
    if not any(config.attention_of(layer).rope for layer in config.attending_layers):
        found |= dict.fromkeys(("rot_q", "rot_k"), "this model does not turn queries and keys")
    if config.experts is not None:
        found |= dict.fromkeys(("neurons", "neuron"), "this model's layers have experts")
    else:
        found["routing"] = "this model has no experts to choose from"
    if config.state is not None or config.attention_gate:
        why = "some of this model's layers keep a state, or gate what their heads have seen"
        found |= dict.fromkeys(HEADS_ALONE, why)
    if len(set(config.kv_shapes)) > 1:
        why = "this model's layers differ in the number or the size of their heads"
        found |= dict.fromkeys((*HEADS_ALONE, "kv_head"), why)
    if config.layer_input_size or config.keeping_layers != config.attending_layers:
        why = "some of this model's layers read another's keys, or are told more than the stream"
        found |= dict.fromkeys((*HEADS_ALONE, "kv_head"), why)
    if config.keeps_latents:
        why = "this model's heads look at latents, and keep neither keys nor values of their own"
        found |= dict.fromkeys((*KEYS_ALONE, "kv_head"), why)
    if config.layer_scale:
        found["attribution"] = "this model scales its stream behind each layer, so that is no sum"
    if config.lone_mlps:
        found.setdefault("neurons", "some of this model's layers have no MLP")
    if config.norms_stream:
        why = "this model norms its stream after each addition, so that is no sum"
        found["attribution"] = why
    return found


def absent_points(config: ModelConfig) -> dict[str, frozenset[int]]:
    """The points of `edits.py` that not every layer has -> the layers without it."""
    layers = frozenset(range(config.num_hidden_layers))
    headless = layers.difference(config.attending_layers)
    thoughtless = layers.difference(config.mlp_layers)
    absent = {
        **dict.fromkeys(("head", "pattern", "kv_head"), headless),
        "attn_out": frozenset(config.lone_mlps),
        **dict.fromkeys(("neuron", "mlp_out"), thoughtless),
    }
    return {at: without for at, without in absent.items() if without}


def head_sizes(config: ModelConfig) -> tuple[int, ...]:
    """By layer, 0 where it has no heads; none, if all are alike."""
    attending = config.attending_layers
    layers = range(config.num_hidden_layers)
    found = tuple(config.head_dim_of(n) if n in attending else 0 for n in layers)
    return found if len({*found} - {0}) > 1 else ()
