"""What cannot be told of some models, and why: by their config, before anything is computed."""

from thirdeye.model.config import ModelConfig


def refusals(config: ModelConfig) -> dict[str, str]:
    """The names of parts that such a model does not have -> why."""
    found: dict[str, str] = {}
    layers = range(config.num_hidden_layers)
    if not any(config.attention_of(layer).rope for layer in layers):
        found |= dict.fromkeys(("rot_q", "rot_k"), "this model does not turn queries and keys")
    if any(config.experts_of(layer) for layer in layers):
        found |= dict.fromkeys(("neurons", "neuron"), "this model's layers have experts")
    if config.norms_stream:
        why = "this model norms its stream after each addition, so that is no sum"
        found["attribution"] = why
    return found
