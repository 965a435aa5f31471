"""From a checkpoint into a model, one tensor at a time.

The loader walks the checkpoint, looks up each name in the architecture's table and pushes the
tensor to the model, which knows where it belongs. At the end every tensor was used and every
parameter filled: a model that is silently half random is the worst outcome there is.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from thirdeye.weights.architectures.name_table import Placement
from thirdeye.weights.checkpoint import Checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.shapes import part_shape

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]  # stored bytes done, stored bytes in all


class WeightSink(Protocol):
    """A model that takes its parameters by canonical name; a fused one also by parts ("q", "gate",
    ...)."""

    def expected(self) -> set[tuple[str, str | None]]:
        """Every (name, part) that must come; a tensor with part None also fills all parts of its
        name."""

    def load(self, name: str, part: str | None, tensor: "Tensor") -> None:
        """Take one tensor; the sink copies it, and casts and shards as it likes."""


def load_weights(
    checkpoint: Checkpoint, model: WeightSink, progress: Progress | None = None
) -> None:
    """Fill `model`. Raises `ModelFormatError` if a tensor is unknown, ill-shaped, missing or there
    twice."""
    sizes = checkpoint.tensor_sizes()
    missing = model.expected()
    expected = frozenset(missing)
    _check_names(checkpoint, sizes, expected)
    done, total = 0, sum(sizes.values())
    for name, tensor in checkpoint.tensors():
        for placement in checkpoint.placements(name) or []:
            filled = _fills(placement, expected)
            if not filled <= missing:
                raise ModelFormatError(
                    checkpoint.path, f"fills {placement.name} a second time.", field=name
                )
            missing -= filled
            model.load(
                placement.name, placement.part, _transformed(checkpoint, name, placement, tensor)
            )
        done += sizes[name]
        if progress is not None:
            progress(done, total)
    assert not missing, "the names were checked"


def _check_names(
    checkpoint: Checkpoint, names: Iterable[str], expected: frozenset[tuple[str, str | None]]
) -> None:
    """Before any data is read: each tensor has a place in this model, and no place stays empty."""
    unknown: list[str] = []
    missing = set(expected)
    for name in names:
        placements = checkpoint.placements(name)
        if placements is None or not all(_fills(placement, expected) for placement in placements):
            unknown.append(name)
        else:
            missing -= {
                target for placement in placements for target in _fills(placement, expected)
            }
    if unknown:
        raise ModelFormatError(
            checkpoint.path, f"this model has no place for {len(unknown)} tensors: {_few(unknown)}."
        )
    if missing:
        parts = sorted(name if part is None else f"{name}[{part}]" for name, part in missing)
        raise ModelFormatError(
            checkpoint.path, f"{len(parts)} parameters have no tensor: {_few(parts)}."
        )


def _fills(
    placement: Placement, expected: frozenset[tuple[str, str | None]]
) -> set[tuple[str, str | None]]:
    """The expected targets this placement fills: itself, or every part of a parameter that comes
    whole."""
    exact = (placement.name, placement.part)
    if exact in expected:
        return {exact}
    if placement.part is not None:
        return set()
    return {target for target in expected if target[0] == placement.name}


def _transformed(
    checkpoint: Checkpoint, name: str, placement: Placement, tensor: "Tensor"
) -> "Tensor":
    """The tensor in the model's layout, once its shape is known to fit."""
    wanted = part_shape(checkpoint.config, placement.name, placement.part)
    stored = tuple(reversed(wanted)) if placement.is_transposed else wanted
    if tuple(tensor.shape) != stored:
        raise ModelFormatError(
            checkpoint.path,
            f"must have the shape {list(stored)}, got {list(tensor.shape)}.",
            field=name,
        )
    return placement.apply(tensor)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ..."
