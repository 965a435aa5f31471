"""A look inside a model some of whose layers keep a state: every part that is not refused."""

import pytest
import torch

from tests.architectures.conftest import Written
from tests.architectures.running import load
from tests.architectures.test_architectures import TOKENS
from tests.inspection.test_readings import read_part, traces_of
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.inspection.refusals import refusals
from thirdeye.server.engine.interface.trace import ARRAYS

NAMES = ("lfm2", "qwen3_5_text", "granitemoehybrid", "falcon_h1", "nemotron_h", "nemotron_h-dense")


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_every_layer(written: Written, name: str) -> None:
    model = load(written(name)[1])
    config, heads, some = model.config, (0, 3, 5), (2, 20)
    told = [part for part in ARRAYS if part not in refusals(config)]
    assert {"pattern", "norms", "attn_out", "norm_stats"} <= {*told}
    reads = Readings(Selection(heads, some), max_rows=8)
    for layer, trace in enumerate(traces_of(model, TOKENS)):
        parts = {part: read_part(reads, trace, part) for part in told}
        attends = layer in config.attending_layers
        assert parts["pattern"].shape == (len(heads) * attends, len(some), len(TOKENS))
        assert parts["norms"].shape == (5, len(some))
        added = parts["attn_out"] + parts["mlp_out"]
        torch.testing.assert_close(parts["resid_pre"] + added, parts["resid_post"])
        assert parts["attn_out"].any() == (layer not in config.lone_mlps)
        assert parts["mlp_out"].any() == (layer in config.mlp_layers)
        if "routing" in told:
            chosen = config.experts.num_chosen if config.experts else 0
            has_experts = config.experts_of(layer) is not None
            assert parts["routing"].shape == (len(some), chosen * has_experts, 2)
