"""Where kernels are launched before the last one ends, and that nowhere else anything changes."""

import pytest
import torch

pytest.importorskip("triton", reason="no triton: there are no such kernels")

from thirdeye.model.kernels import dependent_launch
from thirdeye.model.kernels.dependent_launch import launch_options


@pytest.mark.parametrize(("capability", "is_on"), [((8, 9), False), ((9, 0), True)])
def test_from_hopper_on(
    capability: tuple[int, int], is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependent_launch._is_hopper.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    expected = {"DEPENDENT": is_on, "launch_pdl": is_on}
    assert launch_options(torch.device("cuda:0")) == expected
    dependent_launch._is_hopper.cache_clear()


def test_not_in_the_interpreter() -> None:
    assert not any(launch_options(torch.device("cpu")).values())
