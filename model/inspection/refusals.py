"""What cannot be told of some models, and why: by their config, before anything is computed."""

from thirdeye.model.config import ModelConfig


def refusals(config: ModelConfig) -> dict[str, str]:
    """The names of parts that such a model does not have -> why."""
    found: dict[str, str] = {}
    if not any(config.attention_of(layer).rope for layer in config.attending_layers):
        found |= dict.fromkeys(("rot_q", "rot_k"), "this model does not turn queries and keys")
    is_normed = config.wide_qk_norm or config.head_qk_norm or config.qk_norm
    if config.qk_norm and config.norms_turned and config.clip_qkv is None:
        why = "this model norms queries and keys behind the turning: 'rot_q' and 'rot_k' are normed"
        found |= dict.fromkeys(("q_normed", "k_normed"), why)
    elif not is_normed and config.clip_qkv is None:
        why = "this model does not norm queries and keys: 'q' and 'k' are what is turned"
        found |= dict.fromkeys(("q_normed", "k_normed"), why)
    if not config.value_norm and config.clip_qkv is None:
        found["v_normed"] = "this model does not norm values: 'v' is what is kept"
    if not layers_with_neurons(config):
        found |= dict.fromkeys(("neurons", "neuron"), "this model's layers have experts")
    if config.experts is None:
        found["routing"] = "this model has no experts to choose from"
    return found


def layers_with_neurons(config: ModelConfig) -> list[int]:
    """Those with one MLP for all tokens, and no experts beside it."""
    return [layer for layer in config.mlp_layers if config.experts_of(layer) is None]


def absent_points(config: ModelConfig) -> dict[str, frozenset[int]]:
    """The points of `edits.py` that not every layer has -> the layers without it."""
    layers = frozenset(range(config.num_hidden_layers))
    headless = layers.difference(config.attending_layers)
    absent = {
        **dict.fromkeys(("head", "pattern"), headless),
        "kv_head": layers.difference(config.keeping_layers),
        "attn_out": frozenset(config.lone_mlps),
        "neuron": layers.difference(layers_with_neurons(config)),
        "mlp_out": layers.difference(config.mlp_layers),
    }
    return {at: without for at, without in absent.items() if without}
