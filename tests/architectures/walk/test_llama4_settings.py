"""The settings of Llama 4 as Meta published them, some of which transformers writes otherwise."""

from pathlib import Path
from typing import Any

import pytest

from thirdeye.model.config import ModelConfig, RopeScaling, Temperature
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

SCOUT: dict[str, Any] = {
    "model_type": "llama4_text",
    "attention_chunk_size": 8192,
    "attn_scale": 0.1,
    "attn_temperature_tuning": 4,
    "floor_scale": 8192,
    "interleave_moe_layer_step": 1,
    "max_position_embeddings": 10485760,
    "no_rope_layers": [],
    "num_local_experts": 16,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 1.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "use_qk_norm": True,
}
MAVERICK = SCOUT | {
    "interleave_moe_layer_step": 2,
    "max_position_embeddings": 1048576,
    "moe_layers": list(range(1, 48, 2)),
    "num_local_experts": 128,
    "rope_scaling": None,
    "use_qk_norm": False,
}


def read(settings: dict[str, Any]) -> ModelConfig:
    fields = Fields(Path("config.json"), settings)
    return by_model_type(fields).huggingface_config(fields)


def test_scout() -> None:
    """Its rotation mixes no paces: every pair keeps its own, or turns 16 times slower."""
    config = read(SCOUT)
    assert config.rope is not None
    assert config.rope.scaling == RopeScaling("llama3", 16.0, 1.0, 1.0, 8192)
    assert config.dense_layers == ()
    grows = [spec.temperature is not None for spec in config.attention]
    assert grows == [layer % 4 == 3 for layer in range(48)]


def test_maverick() -> None:
    config = read(MAVERICK)
    assert config.dense_layers == tuple(range(0, 48, 2))
    assert config.attention[3].temperature == Temperature(pytest.approx(0.1), 8192, first=1)
    assert all(spec.unit_norm_eps is None for spec in config.attention)


@pytest.mark.parametrize(("said", "grows"), [(True, True), (False, False), (4, True), (0, False)])
def test_queries_grow_if_a_number_says_so(said: object, grows: bool) -> None:
    config = read(SCOUT | {"attn_temperature_tuning": said})
    assert (config.attention[3].temperature is not None) == grows


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="'attn_temperature_tuning': must be true or"):
        read(SCOUT | {"attn_temperature_tuning": "yes"})
    scaling = SCOUT["rope_scaling"] | {"low_freq_factor": 2.0}
    with pytest.raises(ModelFormatError, match="must not be above 'high_freq_factor'"):
        read(SCOUT | {"rope_scaling": scaling})
