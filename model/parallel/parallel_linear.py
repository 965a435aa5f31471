"""Linear layers of which a rank has a share: by outputs, by inputs, or by the head's tokens.

Each is made from the part that declares all of it, is a `Linear` of the rank's own size, and joins
the ranks' results where they must be joined. Alone, each is a plain `Linear`.
"""

from torch import Tensor

from thirdeye.model.declare.parameter import Dealt, Share, token_rows
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.parallel.shares import gather_tokens
from thirdeye.model.placement import Placement


class SharedLinear(Linear):
    """A `Linear` of this rank's own size, one of several that do the layer's work together, or each
    all of it."""

    def __init__(
        self, part: LinearPart, where: Placement, *, method: LinearMethod | None = None
    ) -> None:
        ranks = where.ranks
        out_features, in_features = part.own()["weight"].own_shape(ranks.rank, ranks.size)
        super().__init__(in_features, out_features, part.has_bias, where, method=method)
        self.ranks = ranks
        self.all_outputs = part.out_features


class ColumnParallelLinear(SharedLinear):
    """x [T, in], the same on every rank -> this rank's outputs [T, out / ranks].

    A merged layer's parts are dealt out one by one: some of each of query, key and value.
    """


class RowParallelLinear(SharedLinear):
    """This rank's inputs [T, in / ranks] -> all outputs [T, out], summed over the ranks."""

    def forward(self, x: Tensor) -> Tensor:
        return self.ranks.add_up(super().forward(x))


class VocabParallelLinear(SharedLinear):
    """x [S, hidden_size] -> logits [S, vocab_size]: each rank scores its tokens, all see all."""

    def forward(self, x: Tensor) -> Tensor:
        return gather_tokens(super().forward(x), self.all_outputs, self.ranks)


class VocabParallelTiedLinear(TiedLinear):
    """The same from the rows of an embedding table [vocab_size, hidden_size]."""

    def __init__(
        self, table: Tensor, where: Placement, *, method: LinearMethod | None = None
    ) -> None:
        super().__init__(
            table[token_rows(len(table), where.ranks.rank, where.ranks.size)], where, method=method
        )
        self.vocab_size, self.ranks = len(table), where.ranks

    def take_stored(self, table: StoredTensor) -> bool:
        own = table.cut(Share((token_rows(self.vocab_size, self.ranks.rank, self.ranks.size),)))
        return own is not None and super().take_stored(own)

    def forward(self, x: Tensor) -> Tensor:
        return gather_tokens(super().forward(x), self.vocab_size, self.ranks)


# Named for the matrix [in, out] of Shoeybi et al.: its columns are our rows.
KINDS = {
    Dealt.WHOLE: SharedLinear,
    Dealt.ROWS: ColumnParallelLinear,
    Dealt.COLUMNS: RowParallelLinear,
    Dealt.TOKENS: VocabParallelLinear,
}


def make_linear(
    part: LinearPart, where: Placement, *, method: LinearMethod | None = None
) -> SharedLinear:
    """The layer that is dealt out as its part says."""
    kind = KINDS[part.dealt] if part.is_summed else SharedLinear
    return kind(part, where, method=method)
