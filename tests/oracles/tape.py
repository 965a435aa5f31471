"""A CUDA graph's twin on the CPU: the operations of one run, recorded with the very tensors they
read and wrote, and done again on those addresses.

What a graph cannot do fails here as well: a value that was read on the host during the capture is
an error, and one that was read past torch (`tolist`, `numpy`) is baked in, so that the replay says
the old thing. Whoever holds a replayed loop against a plain one finds it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS_ON_THE_HOST = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}

Record = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]


class Tape(TorchDispatchMode):
    """Records what runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[Record] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in READS_ON_THE_HOST, f"a captured step must not call {name}"
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._records.append((func, args, kwargs, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self._records:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and not shares_memory(old, new):
                    old.copy_(new)

    def __len__(self) -> int:
        return len(self._records)


def shares_memory(old: Tensor, new: Tensor) -> bool:
    """Whether the operation gave a view, or wrote in place: then there is nothing to put back."""
    if old.layout != torch.strided:
        return True  # packed weights, which no step changes
    return old.untyped_storage().data_ptr() == new.untyped_storage().data_ptr()


def capture_on_tape(step: Callable[[], None]) -> Callable[[], None]:
    """`Capture` of `run_ahead/cuda_graphs.py`. Like the real one it runs the step once before."""
    step()
    tape = Tape()
    with tape:
        step()
    assert len(tape), "nothing was recorded"
    return tape.replay
