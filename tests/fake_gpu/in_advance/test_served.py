"""What was compiled in advance is what a server of the headline model asks for."""

from typing import Any

import pytest

from tests.fake_gpu.children.child import Child


@pytest.fixture(scope="module")
def served(child: Child) -> dict[str, Any]:
    found: dict[str, Any] = child.run("tests.fake_gpu.in_advance.served")
    return found


@pytest.mark.parametrize("how", ["plain", "guesses"])
def test_a_served_8b_asks_for_no_other_kernel(served: dict[str, Any], how: str) -> None:
    """Each of its kernels, in each form, is one that a cache filled in advance holds."""
    assert served["unknown"][how] == []
    assert served["known"] > len(served["kernels"][how]) > 7
    assert ("accept_kernel" in served["kernels"][how]) == (how == "guesses")
