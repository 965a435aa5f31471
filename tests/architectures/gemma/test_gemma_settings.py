"""What Gemma's files say of the function at the gate, and what transformers makes of it."""

from pathlib import Path

import pytest
from transformers import GemmaConfig

from thirdeye.model.config import Activation
from thirdeye.weights.architectures.common.activations import ACTIVATIONS
from thirdeye.weights.architectures.gemma.gemma import huggingface_config
from thirdeye.weights.formats.fields import Fields


@pytest.mark.parametrize("name", [*ACTIVATIONS, None])
def test_of_the_names_one_is_a_mistake(name: str | None) -> None:
    settings = {} if name is None else {"hidden_act": name}
    ours = huggingface_config(Fields(Path("config.json"), settings)).activation
    assert ours is ACTIVATIONS[GemmaConfig(**settings).hidden_act]
    if name == "gelu":
        assert ours is Activation.GELU_TANH
