"""Every check of `checks.py` on a real GPU; skipped, with a reason, where there is none."""

import pytest
import torch

from tests.gpu.checks.all_checks import Check, checks

pytestmark = pytest.mark.gpu
ALL = dict(checks())


@pytest.mark.parametrize("check", ALL.values(), ids=ALL)
def test_check(check: Check, gpu: torch.device) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        check(gpu)
