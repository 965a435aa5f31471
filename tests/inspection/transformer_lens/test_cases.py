"""What a look tells is what TransformerLens 4.3 told once, by hand: `record.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures.running import load
from tests.inspection.test_attribution import attributed
from tests.inspection.test_readings import finish, traces_of, whole
from tests.inspection.transformer_lens.models import COMPARED, CONFIGS, OTHER, TEXT, formula_model
from thirdeye.model.inspection.edits import Edit, Put, Scale
from thirdeye.model.inspection.probe import logit_lens
from thirdeye.model.inspection.readings import Readings
from thirdeye.model.transformer import Transformer

CASES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "cases.json").read_text())
LAYER, HEAD, POSITION = 1, 2, 4
STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@pytest.fixture(scope="module", params=CONFIGS)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Transformer, dict[str, Tensor]]]:
    path = tmp_path_factory.mktemp("model")
    formula_model(request.param).save_pretrained(path)
    told = {key: torch.tensor(value) for key, value in CASES[request.param].items()}
    with torch.inference_mode():
        yield load(path), told


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_readings(case: tuple[Transformer, dict[str, Tensor]]) -> None:
    model, told = case
    trace = traces_of(model, TEXT)[LAYER]
    reads = Readings(whole(model, len(TEXT)), 8)
    close(finish(reads.array(trace, "pattern")), told["pattern"])
    for name in ("q", "k", "v", "q_normed", "k_normed", "z", "rot_q", "rot_k"):
        if name in told:
            close(finish(reads.array(trace, name))[:, POSITION], told[name])
    for name in STREAM:
        close(getattr(trace, name)[POSITION], told[name])
    assert trace.neurons is not None
    close(trace.neurons[POSITION], told["neurons"])
    close(finish(reads.array(trace, "norm_stats"))[0, :, -1], told["scale"])
    lens = logit_lens(model, trace.resid_pre[-1:])[0]
    close(lens, told["lens"].log_softmax(-1))


def test_edits(case: tuple[Transformer, dict[str, Tensor]]) -> None:
    """A head put out, and a token's stream taken from another text."""
    model, told = case
    taken = traces_of(model, OTHER)[2].resid_pre[POSITION : POSITION + 1]
    for name, edits in (
        ("logits", []),
        ("without_a_head", [Edit("head", Scale(0.0), LAYER, HEAD)]),
        ("patched", [Edit("resid_pre", Put(taken), 2, 0, (POSITION,))]),
    ):
        logits = model.unembed(traces_of(model, TEXT, edits=edits)[-1].resid_post)[-1]
        close(logits, told[name])
        if edits:
            assert (logits - told["logits"]).abs().max() > 5e-4


def test_attribution(case: tuple[Transformer, dict[str, Tensor]]) -> None:
    """What each head adds to a logit less another."""
    model, told = case
    found = attributed(model, COMPARED, text=TEXT)
    close(torch.cat(found.heads).float(), told["attribution"])
