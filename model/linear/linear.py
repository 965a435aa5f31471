"""The one linear layer: a matrix, perhaps several merged into one, kept however its method wants.

Projections that read the same input are merged, since one large matrix product is faster than three
small ones: `qkv` is query, key and value stacked, `gate_up` the two halves of a gated MLP. A
merged layer knows its parts as ranges of rows, so a checkpoint that keeps them apart fills each by
its name.
"""

from collections.abc import Mapping

from torch import Tensor

from thirdeye.model.linear.choose_method import choose_linear
from thirdeye.model.linear.method import LinearLayer, LinearMethod
from thirdeye.model.placement import Placement


class Linear(LinearLayer):
    """y [..., out] = x [..., in] W^T + b, with `weight` [out, in] and, if asked for, `bias` [out].

    `parts` names the rows of a merged layer, top to bottom; their sizes add up to `out_features`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        where: Placement,
        *,
        parts: Mapping[str, int] | None = None,
        method: LinearMethod | None = None,
    ) -> None:
        super().__init__()
        assert not parts or sum(parts.values()) == out_features, (parts, out_features)
        self.parts = _row_ranges(parts or {})
        self.method = method or choose_linear(where)
        self.method.create(self, in_features, out_features, bias, where)

    def finish(self) -> None:
        """Call once, after the last parameter is filled and before the first `forward`."""
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
        self.reads_table = True

    def finish(self) -> None:
        """As `Linear.finish`. `reads_table` says then whether the table is still needed."""
        table = self.weight
        self.method.finish(self)
        self.reads_table = self.weight is table

    def forward(self, x: Tensor) -> Tensor:
        return self.method.apply(self, x)


def _row_ranges(sizes: Mapping[str, int]) -> dict[str, slice]:
    ranges, start = {}, 0
    for name, size in sizes.items():
        ranges[name] = slice(start, start + size)
        start += size
    return ranges
