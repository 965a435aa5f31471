"""What checkpoints call the functions between an MLP's two layers: transformers' names."""

from thirdeye.model.config import Activation
from thirdeye.weights.formats.fields import Fields

ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_python": Activation.GELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "relu": Activation.RELU,
    "relu2": Activation.RELU2,
}


def read_activation(fields: Fields, key: str, default: str) -> Activation:
    name = fields.text(key, default)
    if name not in ACTIVATIONS:
        supported = ", ".join(ACTIVATIONS)
        raise fields.error(key, f"'{name:.40}' is not supported; supported are {supported}.")
    return ACTIVATIONS[name]
