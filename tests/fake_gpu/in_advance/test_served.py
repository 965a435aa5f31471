"""What was compiled in advance is what a server of either headline model asks for."""

from typing import Any

import pytest

from tests.fake_gpu.children.child import Child


@pytest.fixture(scope="module")
def served(child: Child) -> dict[str, Any]:
    found: dict[str, Any] = child.run("tests.fake_gpu.in_advance.served")
    return found


@pytest.mark.parametrize("how", ["plain", "guesses"])
@pytest.mark.parametrize("model", ["8B", "0.6B"])
def test_a_served_model_asks_for_no_other_kernel(
    served: dict[str, Any], model: str, how: str
) -> None:
    """Each of its kernels, in each form, is one that a cache filled in advance holds."""
    kernels = served["kernels"][f"{model}, {how}"]
    assert served["unknown"][f"{model}, {how}"] == []
    assert served["known"] > len(kernels) > 7
    assert ("accept_kernel" in kernels) == (how == "guesses")
