"""The one linear layer: a matrix, perhaps several merged into one, kept however its method wants.

Projections that read the same input are merged, since one large matrix product is faster than three
small ones: `qkv` is query, key and value stacked, `gate_up` the two halves of a gated MLP. Which
rows are whose is declared in `model/declare/block.py`.
"""

import torch
from torch import Tensor

from thirdeye.model.declare.parameter import Share
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.choose_method import choose_linear
from thirdeye.model.linear.method import FromStored, LinearLayer, LinearMethod
from thirdeye.model.placement import Placement


class Linear(LinearLayer):
    """y [..., out] = x [..., in] W^T + b: `weight` [out, in] and, if asked for, `bias` [out]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        where: Placement,
        *,
        method: LinearMethod | None = None,
    ) -> None:
        super().__init__()
        self.method = method or choose_linear(where)
        self.method.create(self, in_features, out_features, bias, where)
        self._from_stored = self.method if isinstance(self.method, FromStored) else None
        self._stored: dict[int, StoredTensor] = {}  # by the row of the weight at which it starts

    def take_stored(self, rows: slice, tensor: StoredTensor, share: Share) -> bool:
        """Keep a file's blocks of `share` as these rows of the weight until `finish`, if the method
        may multiply by them; else say no, and have them widened."""
        method = self._from_stored
        if method is None or tensor.format not in method.stored_formats or len(tensor.shape) != 2:
            return False
        if (own := tensor.cut(share)) is None:
            return False
        self._stored[rows.start] = own
        return True

    def finish(self) -> None:
        """Call once, after the last parameter is filled and before the first `forward`."""
        stored = dict(sorted(self._stored.items()))
        self._stored.clear()
        is_all = sum(tensor.shape[0] for tensor in stored.values()) == len(self.weight)
        if self._from_stored and is_all:
            self._from_stored.finish_stored(self, list(stored.values()))
            return
        for start, tensor in stored.items():  # other rows came in a form that is none of these
            self.weight[start : start + tensor.shape[0]].copy_(torch.from_numpy(tensor.widen()))
        self.method.finish(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.method.apply(self, x)


class TiedLinear(LinearLayer):
    """The head of a model whose embedding table, read backwards, scores a vector against all
    tokens.

    It shares the table [out, in] and has no parameter of its own to fill. A method that keeps
    weights in another form makes itself a copy in `finish`; the table stays what it is.
    """

    def __init__(
        self, table: Tensor, where: Placement, *, method: LinearMethod | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", table.detach(), persistent=False)
        self.bias = None
        self.method = method or choose_linear(where)
        self._stored: StoredTensor | None = None
        self.reads_table = True

    def take_stored(self, table: StoredTensor) -> bool:
        """The file's blocks of the table's rows: until `finish`, if the method may multiply by
        them; else False, and the table is read."""
        method = self.method
        if not (isinstance(method, FromStored) and table.format in method.stored_formats):
            return False
        self._stored = table
        return True

    def finish(self) -> None:
        """As `Linear.finish`. `reads_table` says then whether the table is still needed."""
        table = self.weight
        if self._stored is not None and isinstance(self.method, FromStored):
            self.method.finish_stored(self, [self._stored])
            self._stored = None
        else:
            self.method.finish(self)
        self.reads_table = self.weight is table

    def forward(self, x: Tensor) -> Tensor:
        return self.method.apply(self, x)
