"""Linear layers of which a rank has a share: by outputs, by inputs, or by the head's tokens.

Each is a `Linear` of the rank's own size. It is filled with whole tensors, of which it keeps its
share, and joins the ranks' results where they must be joined. Alone, each is a plain `Linear`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.parallel.shares import (
    gather_tokens,
    own_columns,
    own_rows,
    own_tokens,
    zeros_but_on_first,
)
from thirdeye.model.placement import Placement


class SharedLinear(Linear, ABC):
    """A `Linear` of this rank's own size, one of several that do the layer's work together."""

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
        super().__init__(in_features, out_features, bias, where, parts=parts, method=method)
        self.ranks = where.ranks

    @abstractmethod
    def share(self, name: str, part: str | None, tensor: Tensor) -> Tensor:
        """What this rank keeps of a whole `weight` or `bias`, or of a part of it."""


class ColumnParallelLinear(SharedLinear):
    """x [T, in], the same on every rank -> this rank's outputs [T, out / ranks].

    A merged layer's parts are dealt out one by one: some of each of query, key and value.
    """

    def share(self, name: str, part: str | None, tensor: Tensor) -> Tensor:  # noqa: ARG002
        if part is not None or not self.parts:
            return own_rows(tensor, self.ranks)
        sizes = [(rows.stop - rows.start) * self.ranks.size for rows in self.parts.values()]
        if sum(sizes) != len(tensor):
            return tensor  # of no shape that fits: whoever asks says so
        return torch.cat([own_rows(piece, self.ranks) for piece in tensor.split_with_sizes(sizes)])


class RowParallelLinear(SharedLinear):
    """This rank's inputs [T, in / ranks] -> all outputs [T, out], summed over the ranks."""

    def share(self, name: str, part: str | None, tensor: Tensor) -> Tensor:  # noqa: ARG002
        if name == "bias":
            return zeros_but_on_first(tensor, self.ranks)
        return own_columns(tensor, self.ranks)

    def forward(self, x: Tensor) -> Tensor:
        return self.ranks.add_up(super().forward(x))


class VocabParallelLinear(SharedLinear):
    """x [S, hidden_size] -> logits [S, vocab_size]: each rank scores its tokens, all see all."""

    def __init__(
        self,
        hidden_size: int,
        vocab_size: int,
        where: Placement,
        *,
        method: LinearMethod | None = None,
    ) -> None:
        rows = own_tokens(vocab_size, where.ranks)
        super().__init__(hidden_size, rows.stop - rows.start, False, where, method=method)
        self.vocab_size = vocab_size

    def share(self, name: str, part: str | None, tensor: Tensor) -> Tensor:  # noqa: ARG002
        return tensor[own_tokens(self.vocab_size, self.ranks)]

    def forward(self, x: Tensor) -> Tensor:
        return gather_tokens(super().forward(x), self.vocab_size, self.ranks)


class VocabParallelTiedLinear(TiedLinear):
    """The same from the rows of an embedding table [vocab_size, hidden_size]."""

    def __init__(
        self, table: Tensor, where: Placement, *, method: LinearMethod | None = None
    ) -> None:
        super().__init__(table[own_tokens(len(table), where.ranks)], where, method=method)
        self.vocab_size, self.ranks = len(table), where.ranks

    def forward(self, x: Tensor) -> Tensor:
        return gather_tokens(super().forward(x), self.vocab_size, self.ranks)
