"""Filling a model: whoever reads a checkpoint pushes tensors in by name, one at a time.

The model does not know where tensors come from, the reader does not know modules. Between them is
a set of (name, part) pairs: `part` is a merged layer's piece ("q", "k", "v", "gate", "up") and
None where a parameter is one piece.
"""

from torch import Tensor, nn

from thirdeye.model.linear.linear import Linear
from thirdeye.model.parallel.shares import Shared


def expected_tensors(model: nn.Module) -> set[tuple[str, str | None]]:
    """Every (parameter name, part) that must be pushed before the first forward."""
    return {
        (name, part)
        for name, _ in model.named_parameters()
        for part in _row_parts(model, name) or (None,)
    }


def load_tensor(model: nn.Module, name: str, part: str | None, tensor: Tensor) -> None:
    """Copy `tensor`, or this rank's share of it, into a parameter, or into its rows that are
    `part`; dtype and device are the model's.

    With part None a merged parameter is filled whole, all its parts at once. Raises KeyError for a
    name or part the model does not have, ValueError for a shape that does not fit.
    """
    target = _target(model, name, part)
    owner, leaf = _owner(model, name)
    if isinstance(owner, Shared):
        tensor = owner.share(leaf, part, tensor)
    if target.shape != tensor.shape:
        raise ValueError(
            f"'{_label(name, part)}' must have shape {list(target.shape)}, "
            f"got {list(tensor.shape)}."
        )
    target.copy_(tensor)


def _target(model: nn.Module, name: str, part: str | None) -> Tensor:
    try:
        parameter = model.get_parameter(name)
    except AttributeError:
        raise KeyError(f"The model has no parameter '{name}'.") from None
    if part is None:
        return parameter
    parts = _row_parts(model, name)
    if part not in parts:
        raise KeyError(f"'{name}' has no part '{part}', only {list(parts)}.")
    return parameter[parts[part]]


def _row_parts(model: nn.Module, name: str) -> dict[str, slice]:
    owner, _ = _owner(model, name)
    return owner.parts if isinstance(owner, Linear) else {}


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module a parameter belongs to, and what it is called there."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _label(name: str, part: str | None) -> str:
    return name if part is None else f"{name}[{part}]"
