"""Which tokens of the step that is being computed have which adapter.

Linear layers are given vectors and no batch, so the layers that may be adapted look here. Outside
of a step there is nothing: whoever walks through a model's blocks by himself meets the base alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class StepSlots:
    """`slots` is None in a step without adapters."""

    def __init__(self) -> None:
        self.slots: Tensor | None = None  # [T] int32: of each token its adapter's, -1: none
        self._groups: list[tuple[int, Tensor]] | None = None

    @contextmanager
    def of(self, slots: Tensor | None) -> Iterator[None]:
        """While a step is computed whose tokens have these."""
        self.slots, self._groups = slots, None
        try:
            yield
        finally:
            self.slots = self._groups = None

    @property
    def groups(self) -> list[tuple[int, Tensor]]:
        """(slot, its tokens' rows [n] int64), found once a step: on a GPU the host waits for it."""
        assert self.slots is not None
        if self._groups is None:
            found = sorted(set(self.slots.tolist()) - {-1})
            self._groups = [(slot, torch.nonzero(self.slots == slot)[:, 0]) for slot in found]
        return self._groups
