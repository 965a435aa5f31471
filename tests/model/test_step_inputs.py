"""A step's inputs, taken apart: equal keys for equal shapes alone, and every tensor in order."""

import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
import torch
from torch import Tensor

from thirdeye.model.native.tapes.torch_call import Unrecordable
from thirdeye.model.step_inputs import copy_inputs, flatten


class Kind(Enum):
    NEAR = 1
    FAR = 2


@dataclass(frozen=True, slots=True)
class One:
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Other:
    tensor: Tensor


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class Plan:
    ones: tuple[One, ...]
    count: int
    kind: Kind = Kind.NEAR
    sizes: list[Any] = field(default_factory=list)
    table: Tensor | None = None


def shape_of(*inputs: Any) -> tuple[object, ...]:
    return tuple(flatten(inputs)[0])


def test_tensors_come_in_one_order() -> None:
    a, b, c, d = (torch.full((2,), float(i)) for i in range(4))
    inputs = (a, Plan((One(b), One(c)), 3, table=d))
    assert {int(t[0]) for t in flatten(inputs)[1]} == {0, 1, 2, 3}
    order = [int(t[0]) for t in flatten(inputs)[1]]
    copied = copy_inputs(inputs)
    places = flatten(copied)[1]
    assert [int(t[0]) for t in places] == order, "a copy's tensors stand where the original's do"
    assert all(t.data_ptr() not in {x.data_ptr() for x in (a, b, c, d)} for t in places)
    assert shape_of(*copied) == shape_of(*inputs)


def test_the_same_shape_is_the_same_key() -> None:
    first, second = (Plan((One(torch.randn(2, 3)),), 3, sizes=[1, None]) for _ in range(2))
    assert shape_of(first) == shape_of(second)
    assert hash(shape_of(first)) == hash(shape_of(second))


def test_whatever_differs_is_another_key() -> None:
    x, y = torch.zeros(2, 3), torch.zeros(3, 2)
    several: list[tuple[Any, ...]] = [
        (x,), (y,), (x.half(),), (x, x), ((x, x),), ([x, x],), ((x,), x), (One(x),), (Other(x),),
        (Plan((One(x),), 1),), (Plan((One(x),), 2),), (Plan((One(x),), True),),
        (Plan((), 1),), (Plan((), 1, Kind.FAR),), (Plan((One(x),), 1, table=x),),
        (Plan((One(x), One(x)), 1),), (Plan((One(x),), 1, sizes=[x]),), (Nothing(),), (None,), (),
        ("near",), (torch.float16,),
    ]  # fmt: skip
    keys = [shape_of(*inputs) for inputs in several]
    assert len(set(keys)) == len(keys)


class Opaque:
    pass


@pytest.mark.parametrize("value", [Opaque(), lambda x: x, {1: 2}, One, {1, 2}])
def test_what_cannot_be_taken_apart_is_refused_by_name(value: Any) -> None:
    with pytest.raises(Unrecordable, match=type(value).__qualname__):
        flatten((torch.zeros(1), (value,)))


def test_a_step_costs_one_call_of_ours() -> None:
    """However many tensors there are: it runs for each small step."""
    inputs = (torch.zeros(1), (Plan((One(torch.zeros(1)), One(torch.zeros(1))), 1),) * 3)
    flatten(inputs)  # learns the types
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name + " " + event))
    try:
        flatten(inputs)
    finally:
        sys.setprofile(None)
    ours = [call for call in calls if call.endswith(" call")]
    assert ours.count("flatten call") == 1
    assert len(ours) <= 1 + 2 * 6, "and two for each dataclass of one field; 3.12 needs one"
