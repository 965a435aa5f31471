"""A GPU that is named is the one on which kernels, streams and events are."""

import pytest
import torch

from tests.recipes import make_recipe
from tests.server.bench.test_bench_engine import plan
from thirdeye.server.bench import random_model
from thirdeye.server.load.placement import place


@pytest.mark.parametrize(
    ("name", "expected"), [("cuda:1", [torch.device("cuda:1")]), ("cuda", []), ("cpu", [])]
)
def test_it_is_made_the_processs_own(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: list[torch.device]
) -> None:
    """By what serves and by the benchmark."""
    used: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    assert place(make_recipe(device=name), 0, ranks_here=1).device == torch.device(name)
    assert used == expected
    random_model.place(plan("tiny", device=name))
    assert used == 2 * expected
