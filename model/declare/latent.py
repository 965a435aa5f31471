"""The parts of multi-head latent attention, see `latent_spec.py`."""

from collections.abc import Mapping
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.declare.parameter import Dealt, Parameter, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part


@dataclass(frozen=True, slots=True)
class HeadLinearPart(Part):
    """A matrix [rows, columns] for each head, all with the same role. `is_turned`: it leads from
    its rows to its columns, y = x W; else y = x W^T. Heads are dealt out."""

    num_heads: int
    rows: int
    columns: int
    role: Role
    is_turned: bool

    @property
    def in_features(self) -> int:
        return self.rows if self.is_turned else self.columns

    @property
    def out_features(self) -> int:
        """Of one head."""
        return self.columns if self.is_turned else self.rows

    def own(self) -> Mapping[str, Parameter]:
        rows = (Rows(self.num_heads * self.rows, self.role),)
        return {"weight": Parameter(rows, (self.columns,), Dealt.ROWS)}


@dataclass(frozen=True, slots=True)
class LatentPart(Part):
    """From the stream to queries that look at latents, and to what is kept of a token. A rank has
    its own heads' queries; the latents are everybody's, and everybody keeps them."""

    spec: LatentSpec
    num_heads: int
    query_down: LinearPart | None  # to the queries' latent
    query_norm: NormPart | None
    query: LinearPart  # of each head the part that is turned, then the other
    latent: LinearPart  # the part of the key that is turned, then the latent
    latent_norm: NormPart
    key: HeadLinearPart


def latent_part(config: ModelConfig, spec: LatentSpec) -> LatentPart:
    heads, hidden, bias = config.num_heads, config.hidden_size, config.qkv_bias
    width = Rows(heads * spec.head_size, Role.QUERY)
    down = norm = None
    if spec.query_size is not None:
        lowered = Rows(spec.query_size, Role.QUERY)
        down = LinearPart(hidden, (lowered,), bias, Dealt.WHOLE)
        norm = NormPart(Norm.RMS_NORM, spec.query_size, spec.norm_eps)
    return LatentPart(
        spec,
        heads,
        down,
        norm,
        LinearPart(spec.query_size or hidden, (width,), False, Dealt.ROWS),
        LinearPart(hidden, (Rows(spec.kept_size, Role.KEY),), bias, Dealt.WHOLE),
        NormPart(Norm.RMS_NORM, spec.size, spec.norm_eps),
        HeadLinearPart(heads, spec.key_size, spec.size, Role.KEY, is_turned=True),
    )


def value_part(config: ModelConfig, spec: LatentSpec) -> HeadLinearPart:
    """From what a head has seen of latents to its value."""
    return HeadLinearPart(config.num_heads, spec.value_size, spec.size, Role.VALUE, is_turned=False)
