"""For every test here: one thread (tiny tensors gain nothing from more), one seed, no autograd."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """The CPU's alone: `torch.manual_seed` writes down for each accelerator, of which there is
    none, by whom it was called, which takes milliseconds and is kept for good."""
    torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def no_autograd() -> Iterator[None]:
    with torch.inference_mode():
        yield
