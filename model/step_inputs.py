"""What a step is given, flattened: its shape as a key, and its tensors in one order.

Inputs are tensors and plain values in dataclasses, tuples and lists of such, however deep. All of
it is walked in one loop, the wider before the deeper, and how a dataclass is taken apart is found
out once a type: this runs for every small step. What is of no such kind cannot be told apart from
another of its kind, nor be copied: it is refused by name.
"""

import dataclasses
from collections.abc import Callable
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.native.tapes.torch_call import Unrecordable

PLAIN: set[type] = {int, float, bool, str, type(None), torch.dtype}  # enumerations, as they come
SERIES = (tuple, list)  # these, and no class derived from them

_fields: dict[type, Callable[[Any], tuple[Any, ...]]] = {}  # of dataclasses


def flatten(inputs: tuple[object, ...]) -> tuple[list[object], list[Tensor]]:
    """(what makes their shape, equal for equal shapes alone; their tensors).

    Raises `Unrecordable`.
    """
    shape: list[object] = []
    tensors: list[Tensor] = []
    todo: list[Any] = list(inputs)
    for value in todo:  # which gets longer on the way
        kind = type(value)
        if isinstance(value, Tensor):
            tensors.append(value)
            shape += (value.shape, value.dtype)
        elif kind in PLAIN:
            shape += (kind, value)  # 1 and True are equal
        elif kind in SERIES:
            shape += (kind, len(value))
            todo += value
        elif kind in _fields:
            shape.append(kind)
            todo += _fields[kind](value)
        else:
            _learn(kind)
            return flatten(inputs)
    return shape, tensors


def _learn(kind: type) -> None:
    """How a value of this type is taken apart. Raises `Unrecordable`."""
    if issubclass(kind, Enum):
        PLAIN.add(kind)
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        # `attrgetter` gives a tuple for two names or more.
        _fields[kind] = attrgetter(*names) if len(names) > 1 else partial(_few, names)
    else:
        raise Unrecordable(f"a {kind.__qualname__} among a step's inputs, which is no dataclass")


def _few(names: list[str], value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, name) for name in names])


def copy_inputs(value: Any) -> Any:
    """The same with tensors of its own."""
    kind = type(value)
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.contiguous_format)
    if kind in SERIES:
        return kind(map(copy_inputs, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{n: copy_inputs(getattr(value, n)) for n in names})
    return value
