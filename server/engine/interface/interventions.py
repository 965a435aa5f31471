"""Interventions as plain data: what is edited in a look inside, and what a sweep tries.

They are declared, never code, and already valid: whoever builds them has checked them against the
model and the texts. Points are `model/inspection/edits.py`'s.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

POINTS = (
    "embed", "resid_pre", "kv_head", "pattern", "head", "attn_out", "neuron", "mlp_out",
    "resid_post",
)  # fmt: skip
STREAM_POINTS = ("embed", "resid_pre", "attn_out", "mlp_out", "resid_post")
PATTERNS = ("identity", "uniform", "previous")
CHANGES = ("zero", "scale", "mean", "source", "add", *PATTERNS)
SWEEPS = ("heads", "kv_heads", "mlps", "attentions", "positions", "layers_positions")
Place = tuple[int, str, int, int]  # text, point, layer, index
EFFECT_FIELDS = ("kl", "logit_difference", "logprob", "other_logprob", "rank", "other_rank")


class EditSpec(Struct, frozen=True, kw_only=True):
    """`texts` are numbers of `TraceRequest.texts`, counted from 1; 0 is the text itself."""

    at: str  # one of POINTS
    change: str  # one of CHANGES
    layer: int = 0
    index: int = 0  # of the head, key/value head or neuron
    positions: list[int] = []  # none: every one
    factor: float = 1.0  # of a scale, and of what is added
    texts: list[int] = []  # a mean's; the source; two, whose difference is added
    # In the source, one for each position; or where to read both (none: at each position itself).
    from_positions: list[int] = []
    from_layer: int = 0  # where to read what is added
    tokens: list[int] = []  # two, the difference of whose embeddings is added
    vector: list[float] = []  # what is added
    matches_norm: bool = False  # it is made as long as what it is added to


class SweepSpec(Struct, frozen=True, kw_only=True):
    """One variant for each of the things it goes over, all else alike."""

    over: str  # one of SWEEPS
    edit: EditSpec  # of each; `layer`, `index` and `positions` are put in where they are gone over
    layers: list[int]
    positions: list[int] = []  # gone over


class SweptVariant(Struct, frozen=True, kw_only=True):
    """Which one: -1 where the sweep does not go over it."""

    layer: int = -1
    index: int = -1
    position: int = -1


def variants_of(
    sweep: SweepSpec, num_heads: int, num_kv_heads: Sequence[int]
) -> list[SweptVariant]:
    """In order: by layer, then by head or position. `num_kv_heads`: of each layer of the model."""
    if sweep.over == "positions":
        return [SweptVariant(position=position) for position in sweep.positions]
    found = []
    for layer in sweep.layers:
        if sweep.over in ("heads", "kv_heads"):
            count = num_heads if sweep.over == "heads" else num_kv_heads[layer]
            found += [SweptVariant(layer=layer, index=i) for i in range(count)]
        elif sweep.over == "layers_positions":
            found += [SweptVariant(layer=layer, position=position) for position in sweep.positions]
        else:
            found.append(SweptVariant(layer=layer))
    return found


def edit_of(sweep: SweepSpec, variant: SweptVariant) -> EditSpec:
    """What one variant edits."""
    changes: dict[str, object] = {}
    if variant.layer >= 0:
        changes["layer"] = variant.layer
    if variant.index >= 0:
        changes["index"] = variant.index
    if variant.position >= 0:
        changes |= {"positions": [variant.position], "from_positions": [variant.position]}
    return replaced(sweep.edit, changes)


def replaced(edit: EditSpec, changes: dict[str, object]) -> EditSpec:
    found: EditSpec = replace(edit, **changes)
    return found


def places_of(spec: EditSpec) -> list[Place]:
    """The numbers that an edit needs, of which texts."""
    if spec.change in ("mean", "source"):
        return [(text, spec.at, spec.layer, spec.index) for text in spec.texts]
    found = []
    if spec.change == "add":
        found = [(text, spec.at, spec.from_layer, spec.index) for text in spec.texts]
    if spec.matches_norm:
        found.append((0, spec.at, spec.layer, spec.index))
    return found
