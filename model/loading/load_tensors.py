"""Filling a model: whoever reads a checkpoint pushes tensors in by name, one at a time.

The model does not know where tensors come from, the reader does not know modules. Between them is
a set of (name, part) pairs: `part` is a merged layer's piece ("q", "k", "v", "gate", "up") and
None where a parameter is one piece. What is pushed is the whole tensor, whichever rank has what.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from thirdeye.model.declare.parameter import Parameter
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear
from thirdeye.model.loading.widen import Widen, decode
from thirdeye.model.parallel.shares import Ranks, cut


def expected_tensors(declared: Mapping[str, Parameter]) -> set[tuple[str, str | None]]:
    """Every (parameter name, part) that must be pushed before the first forward."""
    return {
        (name, part) for name, parameter in declared.items() for part in parameter.parts or (None,)
    }


def load_tensor(
    module: nn.Module,
    declared: Mapping[str, Parameter],
    ranks: Ranks,
    name: str,
    part: str | None,
    tensor: Tensor | StoredTensor,
    widen: Widen = decode,
) -> None:
    """Copy `tensor`, or this rank's share of it, into a parameter, or into its rows that are
    `part`; dtype and device are the model's. A layer that multiplies by a file's own blocks keeps
    those instead, others `widen` them.

    With part None a merged parameter is filled whole, all its parts at once. Raises KeyError for a
    name or part the model does not have, ValueError for a shape that does not fit.
    """
    parameter = _find(declared, name, part)
    if tuple(tensor.shape) != parameter.shape(part):
        raise ValueError(
            f"'{_label(name, part)}' must have shape {list(parameter.shape(part))}, "
            f"got {list(tensor.shape)}."
        )
    rows = parameter.own_rows(part, ranks.rank, ranks.size)
    share = parameter.share(part, ranks.rank, ranks.size)
    own = module.get_parameter(name)[rows]
    if isinstance(tensor, StoredTensor):
        owner = module.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, Linear) and owner.take_stored(rows, tensor, share):
            return
        if own.dim() == 2 and not share.is_zeros and (blocks := tensor.cut(share)) is not None:
            widen.into(blocks, own)
            return
        tensor = widen(tensor)
    own.copy_(cut(tensor, share))


def _find(declared: Mapping[str, Parameter], name: str, part: str | None) -> Parameter:
    if name not in declared:
        raise KeyError(f"The model has no parameter '{name}'.")
    parameter = declared[name]
    if part is not None and part not in parameter.parts:
        raise KeyError(f"'{name}' has no part '{part}', only {parameter.parts}.")
    return parameter


def _label(name: str, part: str | None) -> str:
    return name if part is None else f"{name}[{part}]"
