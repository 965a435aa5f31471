"""Tiny models of transformers, and the same through our loader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.architectures.cases import randomized
from tests.architectures.running import load
from tests.architectures.table import CASES
from tests.oracles.hooked_model import HookedModel
from thirdeye.model.native.library import Library
from thirdeye.model.transformer import Transformer

TINY = ("gpt2", "llama", "qwen3")  # the classic; rotated, in groups; the same with normed heads


@dataclass(frozen=True)
class Pair:
    """`theirs` is made when a test wants it: not every class can be hooked."""

    hf: PreTrainedModel
    ours: Transformer
    path: Path
    _in_c: dict[str, Transformer] = field(default_factory=dict)

    @cached_property
    def theirs(self) -> HookedModel:
        return HookedModel(self.hf)

    def in_c(self, native: Library, quantize: str) -> Transformer:
        """`ours` with compiled kernels, loaded once: no look changes it."""
        if quantize not in self._in_c:
            self._in_c[quantize] = load(self.path, native=native, quantize=quantize)
        return self._in_c[quantize]


@pytest.fixture(autouse=True)
def plainly() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    done: dict[str, Pair] = {}

    def make(name: str) -> Pair:
        if name not in done:
            path = tmp_path_factory.mktemp(name)
            theirs = randomized(CASES[name])
            theirs.save_pretrained(path)
            done[name] = Pair(theirs, load(path), path)
        return done[name]

    return make
