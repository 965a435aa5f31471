"""The compiled kernels keep what the interpreter showed of them."""

import pytest
import torch

from tests.gpu.checks.deterministic import CHECKS

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", CHECKS)
def test_same_bits(name: str, gpu: torch.device) -> None:
    with torch.inference_mode():
        CHECKS[name](gpu)
