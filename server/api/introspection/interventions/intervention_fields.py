"""Interventions as a request declares them; `intervention_plan.py` checks them against the model
and the texts."""

from typing import Annotated, Literal

from pydantic import Field

from thirdeye.server.api.introspection.interventions.number_fields import (
    MAX_TOKENS,
    HeadNumber,
    LayerNumber,
    OneText,
    Position,
)
from thirdeye.server.api.introspection.token_choice import TokenChoice
from thirdeye.server.api.requests.strict_model import Strict

MAX_INTERVENTIONS = 16
MAX_WIDTH = 65_536  # of a vector; a model's own is checked
MAX_REFERENCES = 8  # texts of a mean

Point = Literal[
    "embed", "resid_pre", "kv_head", "pattern", "head", "attn_out", "neuron", "mlp_out",
    "resid_post",
]  # fmt: skip
SweptPoint = Literal["resid_pre", "attn_out", "mlp_out", "resid_post"]
Positions = Annotated[list[Position], Field(min_length=1, max_length=MAX_TOKENS)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class Direction(Strict):
    """What is added: of `texts` the first's numbers less the second's, at the intervention's point
    and at `position` of each; the same of two `tokens`' embeddings; or a `vector`."""

    texts: list[OneText] | None = Field(None, alias="from", min_length=2, max_length=2)
    position: Position = -1
    layer: LayerNumber | None = None  # none: the intervention's
    tokens: list[TokenChoice] | None = Field(None, min_length=2, max_length=2)
    vector: list[float] | None = Field(None, min_length=1, max_length=MAX_WIDTH)


class Intervention(Strict):
    """One of `set`, `scale` and `add`."""

    at: Point
    layer: LayerNumber = 0
    head: HeadNumber | None = None
    kv_head: Number | None = None
    neuron: Number | None = None
    positions: Positions | None = None  # none: every one
    set: Literal["zero", "mean", "source", "identity", "uniform", "previous"] | None = None
    source_positions: Positions | None = None  # none: the same
    scale: float | None = Field(None, ge=-10, le=10)
    add: Direction | None = None
    times: float = Field(1.0, ge=-50, le=50)  # of what is added
    match_norm: bool = False  # it is made as long as what it is added to


class Sweep(Strict):
    """One variant for each head, or whatever it goes over."""

    over: Literal["heads", "kv_heads", "mlps", "attentions", "positions", "layers_positions"]
    at: SweptPoint | None = None  # of sweeps over positions; none: "resid_pre"
    layer: LayerNumber | None = None  # of "positions"
    set: Literal["zero", "mean", "source"] | None = None
    scale: float | None = Field(None, ge=-10, le=10)
