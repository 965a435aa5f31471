"""What the API says of a model's design is what its checkpoint says."""

import pytest

from tests.architectures.table import CASES
from thirdeye.server.api.state.model_design import LatentDesign
from thirdeye.server.launch.read_design import design_of
from thirdeye.weights.checkpoint import open_checkpoint

CLASSIC = {"norm": "layer_norm", "positions": "learned", "rope_dim": 0, "gated_mlp": False}
ROTARY = {"norm": "rms_norm", "positions": "rotary", "rope_dim": 16, "gated_mlp": True}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", CLASSIC | {"qk_norm": False, "windows": [], "experts": None}),
        ("llama", ROTARY | {"qk_norm": False, "activation": "silu", "intermediate_size": 80}),
        ("qwen3", ROTARY | {"qk_norm": True, "score_divisor": 4.0, "score_softcap": None}),
        ("gemma2", ROTARY | {"score_divisor": 4.0, "score_softcap": 50.0, "post_norm": True}),
        ("mistral-window", ROTARY | {"windows": [7, 7, 7]}),
        ("qwen2-window", ROTARY | {"windows": [None, 7, 7]}),
        (
            "deepseek_v3",
            {"latent": LatentDesign(size=24, query_size=20, key_dim=20), "rope_dim": 8},
        ),
        ("bloom", {"norm": "layer_norm", "positions": "alibi", "rope_theta": None}),
    ],
)
def test_a_design_is_the_checkpoints(tmp_path, name, expected):
    CASES[name].make().save_pretrained(tmp_path)
    config = open_checkpoint(tmp_path).config
    design = design_of(config, "F32")
    assert {field: getattr(design, field) for field in expected} == expected
    assert (design.tensor_format, design.norm_eps) == ("F32", config.norm_eps)


def test_experts_are_told_with_their_layers(tmp_path):
    CASES["qwen3_moe-dense-among"].make().save_pretrained(tmp_path)
    experts = design_of(open_checkpoint(tmp_path).config, "").experts
    assert experts is not None
    assert (experts.num_chosen, experts.layers, experts.has_shared) == (2, [1, 2], False)
