"""The kinds of part that have parameters of their own, and how parts make up larger ones.

A part's fields that are parts again are its children, by the names that the module made from it
gives them: `walk` names every parameter as `torch.nn.Module.named_parameters` does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from thirdeye.model.config import Norm
from thirdeye.model.declare.parameter import Dealt, Fill, Parameter, Role, Rows


@dataclass(frozen=True, slots=True)
class Part:
    """Something with parameters, or with parts that have some."""

    def own(self) -> Mapping[str, Parameter]:
        """Its own parameters, without those of its children."""
        return {}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters below, by the module's names for them."""
        for name, parameter in self.own().items():
            yield prefix + name, parameter
        for field in fields(self):
            yield from _walk(getattr(self, field.name), f"{prefix}{field.name}.")


def _walk(value: Any, prefix: str) -> Iterator[tuple[str, Parameter]]:
    if isinstance(value, Part):
        yield from value.walk(prefix)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{prefix}{index}.")


@dataclass(frozen=True, slots=True)
class TablePart(Part):
    """A vector for each token, or each position. Every rank has all of it: it is looked up, not
    multiplied."""

    num_rows: int
    width: int
    role: Role
    scale: float = 1.0  # what is looked up is multiplied by it

    def own(self) -> Mapping[str, Parameter]:
        return {"weight": Parameter((Rows(self.num_rows, self.role),), (self.width,))}


@dataclass(frozen=True, slots=True)
class NormPart(Part):
    kind: Norm
    size: int
    eps: float
    has_bias: bool = True  # of a LayerNorm; an RMSNorm never has one
    has_weight: bool = True

    def own(self) -> Mapping[str, Parameter]:
        if not self.has_weight:
            return {}
        rows = (Rows(self.size, Role.NORMS),)
        weight = Parameter(rows, fill=Fill.ONES)
        if self.kind is Norm.RMS_NORM or not self.has_bias:
            return {"weight": weight}
        return {"weight": weight, "bias": Parameter(rows, fill=Fill.ZEROS)}


@dataclass(frozen=True, slots=True)
class WideNormPart(Part):
    """An RMSNorm over all heads together, of which each rank has its own."""

    size: int
    eps: float

    def own(self) -> Mapping[str, Parameter]:
        rows = (Rows(self.size, Role.NORMS),)
        return {"weight": Parameter(rows, dealt=Dealt.ROWS, fill=Fill.ONES)}


@dataclass(frozen=True, slots=True)
class HeadNormPart(Part):
    """A LayerNorm without bias for each head, with weights of its own; by their numbers ("0")."""

    num_heads: int
    head_dim: int
    eps: float

    def own(self) -> Mapping[str, Parameter]:
        rows = tuple(Rows(1, Role.NORMS, str(head)) for head in range(self.num_heads))
        return {"weight": Parameter(rows, (self.head_dim,), Dealt.PARTS, Fill.ONES)}


@dataclass(frozen=True, slots=True)
class LinearPart(Part):
    """y = x W^T + b. Dealt out by rows, a rank computes some outputs; by columns, it has some of
    the inputs and its results are summed up; by tokens, its logits are put beside the others'."""

    in_features: int
    rows: tuple[Rows, ...]
    has_bias: bool
    dealt: Dealt
    is_summed: bool = True  # dealt out by columns; else whoever has several such sums them up

    @property
    def out_features(self) -> int:
        return sum(rows.size for rows in self.rows)

    def own(self) -> Mapping[str, Parameter]:
        weight = Parameter(self.rows, (self.in_features,), self.dealt)
        if not self.has_bias:
            return {"weight": weight}
        dealt = Dealt.FIRST if self.dealt is Dealt.COLUMNS else self.dealt
        return {"weight": weight, "bias": Parameter(self.rows, (), dealt, Fill.ZEROS)}
