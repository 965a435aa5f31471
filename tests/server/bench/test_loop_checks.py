"""The checks of the decode loop, on a CPU: that they run, and hold where nothing is a GPU's own."""

import pytest
import torch

from tests.gpu.checks import draft_checks, loop_checks

CHECKS = loop_checks.CHECKS | draft_checks.CHECKS

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")


@pytest.mark.parametrize("name", CHECKS)
def test_it_holds(name: str) -> None:
    torch.set_num_threads(1)
    with torch.inference_mode():
        CHECKS[name](torch.device("cpu"))
