"""Each architecture's checkpoints, written once for all tests here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from tests.architectures.cases import randomized
from tests.architectures.table import CASES

Written = Callable[[str], tuple[PreTrainedModel, Path, Path | None]]


@pytest.fixture(autouse=True)
def plainly() -> Iterator[None]:
    """One thread (tiny tensors gain nothing from more), no autograd."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """transformers' model, its checkpoint as transformers saves it, and the same as GGUF."""
    done: dict[str, tuple[PreTrainedModel, Path, Path | None]] = {}
    disable_progress_bar()

    def write(name: str) -> tuple[PreTrainedModel, Path, Path | None]:
        if name not in done:
            case, folder = CASES[name], tmp_path_factory.mktemp(name)
            model = randomized(case)
            model.save_pretrained(folder / "hf")
            file = case.gguf(model, folder / "m.gguf") if case.gguf else None
            done[name] = model, folder / "hf", file
        return done[name]

    return write
