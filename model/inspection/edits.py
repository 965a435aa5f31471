"""Changes to what a model computes, as data: which numbers, of which positions, become what.

An edit names a point of the model, by TransformerLens's names. It is applied to the probe's own
tensors on their way through a block (`block_run.py`); the served modules are only called. Points of
a layer follow one another as in POINTS, and edits of one point in the order they are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

POINTS = (
    "embed",  # token embeddings [n, hidden_size], before positions are added
    "resid_pre",  # the stream before a block, [n, hidden_size]
    "kv_head",  # a key/value head's keys (before they are turned) and values, [n, both sizes]
    "pattern",  # a query head's weights, [n, keys]
    "head",  # a query head's z, [n, head_dim]
    "attn_out",  # what attention adds to the stream, [n, hidden_size]
    "neuron",  # one of the numbers that the MLP's last layer reads, [n, 1]
    "mlp_out",  # what the MLP adds
    "resid_post",  # the stream behind a block
)
INDEXED = ("kv_head", "pattern", "head", "neuron")  # one of a layer's many


class EditChange(Protocol):
    def __call__(self, values: Tensor, places: Tensor) -> Tensor:
        """values [m, width], of which each row has its place among the edit's positions."""


@dataclass(frozen=True, slots=True)
class Scale:
    factor: float

    def __call__(self, values: Tensor, places: Tensor) -> Tensor:  # noqa: ARG002
        return values * self.factor


@dataclass(frozen=True, slots=True)
class Put:
    """Other values, [positions, width], or [1, width] for all alike."""

    values: Tensor

    def __call__(self, values: Tensor, places: Tensor) -> Tensor:
        return _rows(self.values, places, values).expand_as(values)


@dataclass(frozen=True, slots=True)
class AddVector:
    """[positions, width], or [1, width] for all alike, on top of what is there."""

    values: Tensor

    def __call__(self, values: Tensor, places: Tensor) -> Tensor:
        return values + _rows(self.values, places, values)


def _rows(values: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """As wide as `like`: of a pattern there may be keys of tokens that are still to come."""
    values = values[:, : like.shape[1]].to(like)
    return values if len(values) == 1 else values[places.to(like.device)]


@dataclass(frozen=True, slots=True)
class Edit:
    at: str  # one of POINTS
    change: EditChange
    layer: int = 0
    index: int = 0  # of the head, key/value head or neuron, in the whole model
    positions: tuple[int, ...] | None = None  # None: every one, also those yet to come

    def applied(self, values: Tensor, start: int) -> Tensor:
        """values [m, width] of the positions from `start` on -> the same, edited."""
        here = torch.arange(start, start + len(values))
        if self.positions is None:
            return self.change(values, here)
        pairs = [
            (position - start, place)
            for place, position in enumerate(self.positions)
            if start <= position < start + len(values)
        ]
        if not pairs:
            return values
        rows, places = torch.tensor(pairs).unbind(1)
        values = values.clone()
        values[rows] = self.change(values[rows], places)
        return values


@dataclass(frozen=True, slots=True)
class TextEdits:
    """The edits of each of the texts that are computed together."""

    by_text: Sequence[Sequence[Edit]] = ()

    def at(self, point: str, layer: int) -> list[tuple[int, Edit]]:
        """(text, edit), in the order they are to be applied."""
        return [
            (text, edit)
            for text, edits in enumerate(self.by_text)
            for edit in edits
            if edit.at == point and edit.layer == layer
        ]


NO_EDITS = TextEdits()
