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
        self._of_each: int | None = None

    @contextmanager
    def of_each(self, slot: int) -> Iterator[None]:
        """While rows are computed that all have this one's, however many a layer is given: those of
        a text that somebody looks into."""
        self._of_each = slot
        try:
            with self.of(torch.empty(0, dtype=torch.int32)):
                yield
        finally:
            self._of_each = None

    def fit(self, rows: Tensor) -> None:
        """`slots` are of these rows from now on."""
        assert self.slots is not None
        if self._of_each is not None and len(self.slots) != len(rows):
            each = torch.tensor(self._of_each, dtype=torch.int32, device=rows.device)
            self.slots, self._groups = each.repeat(len(rows)), None

    @contextmanager
    def of(self, slots: Tensor | None) -> Iterator[None]:
        """While a step is computed whose tokens have these."""
        before, self.slots, self._groups = self.slots, slots, None
        try:
            yield
        finally:
            self.slots, self._groups = before, None

    @property
    def groups(self) -> list[tuple[int, Tensor]]:
        """(slot, its tokens' rows [n] int64), found once a step: on a GPU the host waits for it."""
        assert self.slots is not None
        if self._groups is None:
            found = sorted(set(self.slots.tolist()) - {-1})
            self._groups = [(slot, torch.nonzero(self.slots == slot)[:, 0]) for slot in found]
        return self._groups
