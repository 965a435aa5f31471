"""Kernels of layers that keep a state, in triton's interpreter: near the textbook, and bit for bit
the same however a prompt is cut."""

import pytest
import torch

from tests.model.state.state_cases import (
    CUT,
    DELTA_NETS,
    MAMBAS,
    NUM_STATES,
    SEVERAL,
    random,
    spans_of,
)
from thirdeye.model.state.state_cache import ZEROS, StateSpans, lengths_of

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from tests.model.state import state_twins
from thirdeye.model.kernels.states.delta_rule_kernel import delta_rule

CPU = torch.device("cpu")


@pytest.mark.parametrize(("kernel", "channels"), [(4, 70), (8, 5)])
def test_convolution(kernel: int, channels: int) -> None:
    state_twins.check_convolution(kernel, channels, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_convolution_between_gates(dtype: torch.dtype) -> None:
    state_twins.check_gated_convolution(dtype, CPU)


@pytest.mark.parametrize("name", ["shared", "tiled", "wide"])
def test_delta_rule(name: str) -> None:
    state_twins.check_delta_rule(DELTA_NETS[name], CPU)


@pytest.mark.parametrize("name", ["groups", "wide"])
def test_selective_scan(name: str) -> None:
    state_twins.check_scan(MAMBAS[name], CPU)


def test_spans_of_a_sequence_are_counted_at_its_first() -> None:
    assert lengths_of(SEVERAL.spans).tolist() == [3, 0, 0, 1, 3, 0, 0]
    assert lengths_of(CUT.spans).tolist() == [4, 0, 0, 0]
    two_new = spans_of((0, 1, ZEROS, 4), (1, 1, ZEROS, 2), (2, 1, 2, 2))
    assert lengths_of(two_new.spans).tolist() == [1, 2, 0]


def test_a_step_without_tokens() -> None:
    nothing = torch.zeros(0, 4, dtype=torch.int32)
    none = StateSpans(nothing, lengths_of(nothing))
    spec = DELTA_NETS["plain"]
    cache = torch.ones(NUM_STATES, *spec.arrays["delta"])
    numbers = random(0, spec.channels), random(0, 4), random(2), random(2)
    assert len(delta_rule(*numbers, spec, cache, none)) == 0
    assert torch.equal(cache, torch.ones_like(cache))
