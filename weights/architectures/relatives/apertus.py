"""Apertus: a Llama with norms on queries and keys, and a plain MLP whose activation is learned.

The activation's numbers are tensors in safetensors, but metadata in a GGUF file, where rows keep
their order.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from thirdeye.model.config import Activation, ModelConfig, RopeConfig, RopeScaling
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.activations import read_activation
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, HEAD_NORMS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULTS = Defaults(
    vocab_size=131072,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=65536,
    norm_eps=1e-5,
    rope_theta=12e6,
    activation_key="",  # read here
)
SCALING = RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)  # of a config that says nothing of rotation
NUMBERS = ("alpha_p", "alpha_n", "beta", "eps")


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    fields.refuse("post_norm", False)  # these two are of its first files alone
    fields.refuse("qk_norm", True)
    config = llama_family.huggingface_config(fields, "apertus", DEFAULTS)
    if "rope_parameters" not in fields and "rope_scaling" not in fields:
        rope = RopeConfig(DEFAULTS.rope_theta, config.head_dim, SCALING)
        config = replace(config, rope=rope)
    is_learned = fields.text("hidden_act", "xielu") == "xielu"
    activation = Activation.XIELU if is_learned else read_activation(fields, "hidden_act", "xielu")
    return replace(config, gated_mlp=False, activation=activation, qk_norm=True)


def huggingface_names(config: ModelConfig) -> NameTable:
    layer = {
        **HEAD_NORMS,
        "attention_layernorm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        "feedforward_layernorm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
    }
    if config.activation is Activation.XIELU:
        layer |= {f"mlp.act_fn.{name}": _number(name) for name in NUMBERS}
    return llama_names.huggingface_names(config, layer)


def _number(name: str) -> TensorTarget:
    return TensorTarget("blocks.{i}.mlp.act.weight", name)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "apertus")
    return replace(config, gated_mlp=False, activation=Activation.XIELU, qk_norm=True)


def gguf_names(config: ModelConfig) -> NameTable:
    numbers = {f"xielu.{name}": _number(name) for name in NUMBERS}
    return llama_names.gguf_names(config, GGUF_HEAD_NORMS | numbers)


def gguf_vectors(
    file: GGUFFile, config: ModelConfig
) -> "Iterator[tuple[str, npt.NDArray[np.float32]]]":
    """`xielu.alpha_p` and the like: a number for each layer."""
    import numpy as np  # noqa: PLC0415 (whoever describes a checkpoint needs none)

    fields = Fields(file.path, file.metadata)
    for name in NUMBERS:
        numbers = fields.raw(f"xielu.{name}")
        if not hasattr(numbers, "__len__") or len(numbers) != config.num_hidden_layers:
            raise fields.error(
                f"xielu.{name}", f"must be {config.num_hidden_layers} numbers, one a layer."
            )
        for layer, number in enumerate(numbers):
            yield f"blk.{layer}.xielu.{name}", np.array([number], dtype=np.float32)


APERTUS = Architecture(
    models="Apertus",
    model_types=("apertus",),
    gguf_architectures=("apertus",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    gguf_vectors=gguf_vectors,
)
