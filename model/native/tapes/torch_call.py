"""An operation that no kernel of ours does, on a tape: torch does it again at each replay.

While a tape is recorded nothing is computed, so what the operation will give is asked of torch
without data (its `meta` device): shapes, strides and types. What follows is recorded with memory of
that form, into which each replay copies what torch has then computed. What torch cannot say without
data cannot stand on a tape: a number that is read out of a tensor, a shape that depends on what is
in one, an operation of somebody's own without a `register_fake`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from thirdeye.model.loading.import_torch import import_rest

UNKNOWN_BEFORE = {  # data decide, or the tensor itself gets another form
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.inplace_view,
}


# Of these it depends on the arguments, and torch refuses without data where it has to.
BY_ARGUMENTS = {torch.ops.aten.index.Tensor}


class Unrecordable(Exception):
    """The forward pass has a step that cannot be done again by itself; the text names it."""


@dataclass(frozen=True, slots=True)
class TorchCall:
    """`func` on these arguments, on what they hold when it is done."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    places: list[Tensor]  # where its results go; none: into an argument

    @property
    def name(self) -> str:
        return str(self.func)

    def __call__(self) -> None:
        result = self.func(*self.args, **self.kwargs)
        if self.places:
            for place, value in zip(self.places, tree_leaves(result), strict=True):
                place.copy_(value)


def record_call(
    func: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    give: Callable[[Tensor], Tensor],
    unheld: Callable[[Tensor], Tensor],
) -> tuple[TorchCall, Any]:
    """(it on a tape; what it returns, with places instead of what will be in them).

    `give`: memory of this form; `unheld`: the same place, held by nobody who is counted. Raises
    `Unrecordable`.
    """
    form, written = _without_data(func, args, kwargs)
    result: Any
    places: list[Tensor] = []
    if func._schema.is_mutable:
        result = written if func._schema.returns else None
    elif all(isinstance(leaf, Tensor) for leaf in tree_leaves(form)):
        result = tree_map_only(Tensor, give, form)
        places = [unheld(place) for place in tree_leaves(result)]
    else:
        raise Unrecordable(str(func))
    own_args, own_kwargs = tree_map_only(Tensor, unheld, (tuple(args), dict(kwargs)))
    return TorchCall(func, own_args, own_kwargs, places), result


def _without_data(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """(what it would return, on the `meta` device; the argument that it writes into, if any)."""
    if UNKNOWN_BEFORE & set(func.tags) and func not in BY_ARGUMENTS:
        raise Unrecordable(str(func))
    where = {"device": "meta"} if _named(func, "device") else {}
    import_rest()
    try:
        own_args, own_kwargs = tree_map_only(Tensor, _form, (tuple(args), dict(kwargs)))
        form = func(*own_args, **(own_kwargs | where))
    except Exception as error:  # whatever keeps torch from saying it
        raise Unrecordable(str(func)) from error
    written = _written(func, args, kwargs)
    after = _written(func, own_args, own_kwargs)
    is_one = len(written) == len(after) == 1 and len(func._schema.returns) < 2
    if func._schema.is_mutable and not (is_one and written[0].shape == after[0].shape):
        raise Unrecordable(str(func))  # several, or one that grows
    return form, written[0] if written else None


def _form(tensor: Tensor) -> Tensor:
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError("its memory does not hold its numbers")
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _named(func: Any, name: str) -> bool:
    return any(argument.name == name for argument in func._schema.arguments)


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among its arguments that it changes."""
    arguments = func._schema.arguments
    names = [argument.name for argument in arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    changed = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return [values[name] for name in changed if isinstance(values.get(name), Tensor)]
