"""`--pin-threads`: each thread on a core of its own, and who has none for each is told."""

import errno
import logging

import pytest
import torch

from tests.recipes import make_recipe
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.server.load import tensor_parallel
from thirdeye.server.load.tensor_parallel import pin_threads

PLAIN = Placement(torch.float32, torch.device("cpu"))


class Pinned:
    """A library that notes what is asked of it."""

    def __init__(self, error: int = 0) -> None:
        self.cpus: list[int] = []
        self._error = error

    def pin(self, cpus: list[int]) -> None:
        self.cpus = cpus
        if self._error:
            raise OSError(self._error, "no")


def beside(library: Pinned) -> Placement:
    where = Placement(torch.float32, torch.device("cpu"))
    object.__setattr__(where, "native", library)
    return where


def test_one_core_each(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tensor_parallel, "one_cpu_a_core", lambda: [4, 6, 8])
    torch.set_num_threads(2)
    library = Pinned()
    pin_threads(make_recipe(), beside(library))
    assert library.cpus == []
    with caplog.at_level(logging.INFO):
        pin_threads(make_recipe(pin_threads=True), beside(library))
    assert library.cpus == [4, 6]
    assert "pinned to CPUs [4, 6]" in caplog.text


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(pin_threads=True)
    monkeypatch.setattr(tensor_parallel, "one_cpu_a_core", lambda: [4, 6])
    torch.set_num_threads(3)
    with pytest.raises(ValueError, match="a core for each of 3 threads, here are 2: lower"):
        pin_threads(recipe, beside(Pinned()))
    torch.set_num_threads(1)
    with pytest.raises(ValueError, match=r"is not allowed here: .*leave it out"):
        pin_threads(recipe, beside(Pinned(errno.EPERM)))
    with pytest.raises(ValueError, match="'--pin-threads' needs a CPU and our kernels"):
        pin_threads(recipe, PLAIN)
    with pytest.raises(ValueError, match="does not go with '--tensor-parallel'"):
        pin_threads(make_recipe(pin_threads=True, tensor_parallel=2), beside(Pinned()))


def test_the_library_takes_it(native: Library) -> None:
    """One thread is the first, which stays free."""
    torch.set_num_threads(1)
    native.pin([0])
