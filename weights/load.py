"""From a checkpoint into a model, one tensor at a time.

The loader walks the checkpoint, looks up each name in the architecture's table and pushes the
tensor to the model, which knows where it belongs. At the end every tensor was used and every
parameter filled: a model that is silently half random is the worst outcome there is.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.declare.transformer import parameters
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.common.stored_shape import (
    Sizes,
    TensorShape,
    misfit,
    stored_shape,
)
from thirdeye.weights.errors import ModelFormatError

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]  # stored bytes done, stored bytes in all

MOST_IN_BYTE = 8  # numbers: no format keeps one in less than a bit
FEW = 1 << 16  # numbers that are not looked at so closely


class WeightSource(Protocol):
    """Named tensors and where they go: a `Checkpoint`, or a part of one."""

    @property
    def path(self) -> Path: ...

    @property
    def config(self) -> ModelConfig: ...

    def tensor_sizes(self) -> dict[str, int]: ...

    def tensor_shapes(self) -> dict[str, TensorShape]: ...

    def tensors(self) -> "Iterator[tuple[str, Tensor | StoredTensor]]": ...

    def targets(self, name: str) -> list[TensorTarget] | None: ...


class WeightSink(Protocol):
    """A model that takes its parameters by canonical name; a fused one also by parts ("q", "gate",
    ...)."""

    def expected(self) -> set[tuple[str, str | None]]:
        """Every (name, part) that must come; a tensor with part None also fills all parts of its
        name."""

    def load(self, name: str, part: str | None, tensor: "Tensor | StoredTensor") -> None:
        """Take one tensor, or its blocks as the file has them, which `widen` to numbers; the sink
        copies, casts and shards as it likes."""


def check_described(checkpoint: WeightSource) -> None:
    """Before anything of the model's size is made, and any data read: what its config describes is
    what its tensors can be. Raises `ModelFormatError` if a tensor is unknown, missing, there twice,
    much smaller than its place or of another shape."""
    declared, sizes = parameters(checkpoint.config), checkpoint.tensor_sizes()
    shapes = checkpoint.tensor_shapes()
    pairs = ((name, part) for name, one in declared.items() for part in one.parts or (None,))
    missing: set[tuple[str, str | None]] = set(pairs)
    expected = frozenset(missing)
    check_names(checkpoint, sizes, expected)
    for name, num_bytes in sizes.items():
        for target in checkpoint.targets(name) or []:
            filled = _fills(target, expected)
            _check_first(checkpoint, name, target, filled, missing)
            missing -= filled
            shape = declared[target.name].shape(target.part)
            if math.prod(shape) > MOST_IN_BYTE * num_bytes + FEW:
                rule = f"has {num_bytes:,} bytes, and its config describes {list(shape)} numbers."
                raise ModelFormatError(checkpoint.path, rule, field=name)
            if wanted := misfit(target, shape, shapes[name]):
                raise _wrong_shape(checkpoint, name, wanted, shapes[name].sizes)


def _check_first(
    checkpoint: WeightSource,
    name: str,
    target: TensorTarget,
    filled: set[tuple[str, str | None]],
    missing: set[tuple[str, str | None]],
) -> None:
    if not filled <= missing:
        raise ModelFormatError(checkpoint.path, f"fills {target.name} a second time.", field=name)


def load_weights(
    checkpoint: WeightSource, model: WeightSink, progress: Progress | None = None
) -> None:
    """Fill `model`. Raises `ModelFormatError` if a tensor is unknown, ill-shaped, missing or there
    twice."""
    sizes = checkpoint.tensor_sizes()
    missing = model.expected()
    expected = frozenset(missing)
    check_names(checkpoint, sizes, expected)
    done, total = 0, sum(sizes.values())
    for name, tensor in checkpoint.tensors():
        for target in checkpoint.targets(name) or []:
            filled = _fills(target, expected)
            _check_first(checkpoint, name, target, filled, missing)
            missing -= filled
            model.load(target.name, target.part, _in_place(checkpoint, name, target, tensor))
        del tensor  # or it would be there beside the next
        done += sizes[name]
        if progress is not None:
            progress(done, total)
    assert not missing, "the names were checked"


def check_names(
    checkpoint: WeightSource, names: Iterable[str], expected: frozenset[tuple[str, str | None]]
) -> None:
    """Before any data is read: each tensor has a place in this model, and no place stays empty."""
    unknown: list[str] = []
    missing = set(expected)
    for name in names:
        targets = checkpoint.targets(name)
        if targets is None or not all(_fills(target, expected) for target in targets):
            unknown.append(name)
        else:
            missing -= set().union(*(_fills(target, expected) for target in targets))
    if unknown:
        raise ModelFormatError(
            checkpoint.path, f"this model has no place for {len(unknown)} tensors: {_few(unknown)}."
        )
    if missing:
        parts = sorted(name if part is None else f"{name}[{part}]" for name, part in missing)
        raise ModelFormatError(
            checkpoint.path, f"{len(parts)} parameters have no tensor: {_few(parts)}.{_tip(parts)}"
        )


def _fills(
    target: TensorTarget, expected: frozenset[tuple[str, str | None]]
) -> set[tuple[str, str | None]]:
    """What is expected and this fills: itself, or every part of a parameter that comes whole."""
    exact = (target.name, target.part)
    if exact in expected:
        return {exact}
    if target.part is not None:
        return set()
    return {pair for pair in expected if pair[0] == target.name}


def _in_place(
    checkpoint: WeightSource, name: str, target: TensorTarget, tensor: "Tensor | StoredTensor"
) -> "Tensor | StoredTensor":
    """The tensor in the model's layout, once its shape is known to fit."""
    wanted = parameters(checkpoint.config)[target.name].shape(target.part)
    if target.is_transposed and isinstance(tensor, StoredTensor):
        target = replace(target, is_transposed=False)  # blocks are of rows [out, in]
    if target.is_either_way and tuple(tensor.shape[-2:]) != wanted:
        target = replace(target, is_transposed=True)
    stored = stored_shape(target, wanted)
    if not isinstance(tensor, StoredTensor) and tensor.dim() == 0:
        tensor = tensor.view(1)  # one number, which some files keep as a vector
    if target.num_pieces and isinstance(tensor, StoredTensor):
        raise ModelFormatError(checkpoint.path, "is a vector, which is not quantized.", field=name)
    if tuple(tensor.shape) != stored:
        raise _wrong_shape(checkpoint, name, stored, tuple(tensor.shape))
    return target.apply(tensor)


def _wrong_shape(
    checkpoint: WeightSource, name: str, wanted: Sizes, got: Sizes
) -> ModelFormatError:
    rule = f"must have the shape {list(wanted)}, got {list(got)}."
    return ModelFormatError(checkpoint.path, rule, field=name)


def _tip(missing: list[str]) -> str:
    if missing != ["lm_head.weight"]:
        return ""
    return (
        " Its config says, or leaves out, that the head is not its embeddings; if it is, say "
        "'tie_word_embeddings': true there."
    )


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown}, ..."
