"""How many kernels a decode step may launch, and how much it may move: a change may not take more.

A launch costs a microsecond or two of a step whatever it does, which for one row of a small model
is half of its time.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.fake_gpu.children.child import Child
from tests.fake_gpu.in_advance.predictions import predictions

MOST = {  # launches, megabytes beside weights, keys and values
    "8B, batch 1": (196, 42),
    "8B, batch 8": (196, 332),
    "8B, batch 64": (260, 679),
    "0.6B, batch 1": (172, 18),
    "0.6B, batch 8": (172, 140),
    "0.6B, batch 64": (228, 199),
    "8B, guesses": (197, 332),  # of 8 rows: a batch of them, and the kernel that accepts
    "0.6B, guesses": (173, 140),
    "short convolution, batch 8": (23, 1),  # of three small layers, one of which keeps a state
    "delta net, batch 8": (58, 1),
    "mamba, batch 8": (35, 1),
}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
LAYERS = {"8B": 32, "0.6B": 28}
OUTSIDE_OF_LAYERS = {"guesses": 5, "batch": 4}


@pytest.fixture(scope="module")
def counted(child: Child) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = child.run("tests.fake_gpu.launches")
    return found


@pytest.mark.parametrize("step", MOST)
def test_no_more_than(counted: dict[str, dict[str, Any]], step: str) -> None:
    launches, megabytes = MOST[step]
    assert counted[step]["launches"] <= launches, counted[step]
    assert counted[step]["megabytes"] <= megabytes
    if layers := LAYERS.get(step.partition(",")[0]):  # all alike
        outside = counted[step]["launches"] - layers * counted[step]["of_a_layer"]
        assert outside <= next(n for kind, n in OUTSIDE_OF_LAYERS.items() if kind in step)


@pytest.mark.parametrize("model", LAYERS)
def test_guesses_cost_one_launch(counted: dict[str, dict[str, Any]], model: str) -> None:
    """Beside what a step of as many rows launches: that which finds out which are right."""
    plain, verified = (dict(counted[f"{model}, {it}"]["kernels"]) for it in ("batch 8", "guesses"))
    assert verified.pop("accept_kernel") == 1
    assert verified == plain
    assert counted[f"{model}, guesses"]["torch"] == counted[f"{model}, batch 8"]["torch"]


def test_what_the_page_predicts_is_of_these_launches(counted: dict[str, dict[str, Any]]) -> None:
    page = PAGE.read_text().splitlines()
    missing = [row.row() for row in predictions(counted) if row.row() not in page]
    assert not missing, "\n".join(missing)
