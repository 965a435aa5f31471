"""What a request that intervenes asks the engine, as a whole: its edits or its sweep, the texts
they need, and how much of it there may be."""

from msgspec.structs import replace

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.introspection.interventions.intervention_fields import Sweep
from thirdeye.server.api.introspection.interventions.intervention_plan import (
    Texts,
    check_layer,
    check_same_length,
    edit_spec,
    layers_with,
    needed_source,
    width_of,
)
from thirdeye.server.api.state.server_state import ModelInfo, ServedModel
from thirdeye.server.engine.interface.interventions import (
    EditSpec,
    SweepSpec,
    edit_of,
    places_of,
    variants_of,
)
from thirdeye.server.engine.interface.trace import TraceRequest

MAX_SWEPT_TOKENS = 64  # a piece of work: variants are computed whole
MAX_ROW_BLOCKS = 300_000  # tokens of all variants, times the layers they go through
MAX_EDITED_BLOCKS = 1_000_000  # the same of all texts of one that edits, with its noise
MAX_KEPT_BYTES = 128 * 2**20  # of the numbers that are taken from texts
DEFAULT_NOISE = 8
ONLY_EDITED = ("noise", "source", "mean_of", "continued")  # fields
NOT_SWEPT = (
    "include", "heads", "masked_scores", "top_neurons", "lens_positions", "lens_tokens",
    "continued",
)  # fmt: skip
POINTS_OF = {"heads": "head", "kv_heads": "kv_head", "mlps": "mlp_out", "attentions": "attn_out"}
OVER_POSITIONS = ("positions", "layers_positions")
BREAKS_SUM = ("embed", "resid_pre", "resid_post")


async def with_interventions(
    body: InspectRequest, trace: TraceRequest, model: ServedModel
) -> TraceRequest:
    """`trace` with what the request edits. Raises `InvalidRequest`."""
    if not body.interventions and body.sweep is None:
        for name in ONLY_EDITED:
            if name in body.model_fields_set:
                shown = "continue" if name == "continued" else name
                raise refuse(shown, "needs 'interventions' or 'sweep'.")
        return trace
    num_tokens = len(trace.token_ids)
    texts = Texts(model, num_tokens)
    if body.sweep is not None:
        _check_swept(body, num_tokens)
        texts.longest = MAX_SWEPT_TOKENS
    if body.source is not None:
        texts.source = await texts.add(body.source, "source")
    if body.mean_of:
        texts.means = [await texts.add(one, f"mean_of[{i}]") for i, one in enumerate(body.mean_of)]
    sweep: SweepSpec | None = None
    edits: list[EditSpec] = []
    if body.sweep is not None:
        sweep = _sweep_spec(body, body.sweep, trace, texts)
        _check_cost(sweep, num_tokens, model.info)
    else:
        _check_attribution(body)
        for i, asked in enumerate(body.interventions):
            edits.append(await edit_spec(asked, texts, f"interventions[{i}]"))
        _check_work(body, texts)
    _check_kept(sweep, edits, texts)
    _check_used(body, [sweep.edit] if sweep else edits)
    room = model.max_model_len - num_tokens
    if body.continued is not None and body.continued > room:
        raise refuse("continue", f"must be at most {room} beside this text, got {body.continued}.")
    found: TraceRequest = replace(
        trace,
        arrays=[] if sweep else trace.arrays,
        has_lens=trace.has_lens and sweep is None,
        edits=edits,
        sweep=sweep,
        texts=texts.ids,
        num_noise=body.noise,
        num_continued=body.continued or 0,
    )
    return found


def _check_swept(body: InspectRequest, num_tokens: int) -> None:
    if body.interventions:
        raise refuse("sweep", "cannot go with 'interventions': ask for one of them.")
    for name in NOT_SWEPT:
        if name in body.model_fields_set and getattr(body, name):  # empty asks for nothing
            shown = "continue" if name == "continued" else name
            raise refuse(shown, "cannot go with 'sweep', which tells of no layer.")
    if num_tokens > MAX_SWEPT_TOKENS:
        rule = f"is for texts of at most {MAX_SWEPT_TOKENS} tokens, got {num_tokens}: cut the text."
        raise refuse("sweep", rule)


def _check_used(body: InspectRequest, edits: list[EditSpec]) -> None:
    """Raises `InvalidRequest` for texts that nothing is taken from."""
    changes = {edit.change for edit in edits}
    for name, change, is_given in (
        ("source", "source", body.source is not None),
        ("mean_of", "mean", bool(body.mean_of)),
    ):
        if is_given and change not in changes:
            raise refuse(name, f"is taken from by no intervention: one must 'set' '{change}'.")


def _check_attribution(body: InspectRequest) -> None:
    for one in body.interventions:
        if "attribution" in body.include and one.at in BREAKS_SUM:
            where = f"include[{body.include.index('attribution')}]"
            raise refuse(where, f"'attribution' cannot go with an intervention at '{one.at}'.")


def _sweep_spec(body: InspectRequest, asked: Sweep, trace: TraceRequest, texts: Texts) -> SweepSpec:
    is_over_positions = asked.over in OVER_POSITIONS
    if asked.set is not None and asked.scale is not None:
        raise refuse("sweep.scale", "cannot go with 'set': give one of them.")
    for name, belongs in (("at", is_over_positions), ("layer", asked.over == "positions")):
        if getattr(asked, name) is not None and not belongs:
            raise refuse(f"sweep.{name}", f"is not for 'over': '{asked.over}'.")
    if asked.over == "positions" and body.layers is not None:
        raise refuse("layers", "is not for 'over': 'positions': name 'sweep.layer'.")
    info, at, layer = texts.model.info, POINTS_OF.get(asked.over, asked.at or "resid_pre"), 0
    if at in info.untold:
        raise refuse("sweep.over", f"'{asked.over}' cannot be edited: {info.untold[at]}.")
    layers = layers_with(at, trace.layers, info)
    if asked.over == "positions":
        layers = [asked.layer or 0]
        check_layer(at, layers[0], info, "sweep.layer")
        layer = layers[0]
    for i, named in enumerate(body.layers or ()):
        check_layer(at, named, info, f"layers[{i}]")
    change = "scale" if asked.scale is not None else asked.set or "zero"
    edit = EditSpec(
        at=at,
        change=change,
        layer=layer,
        factor=1.0 if asked.scale is None else asked.scale,
    )
    if change == "mean":
        edit = replace(edit, texts=texts.means)
    if change == "source":
        source = needed_source(texts, "sweep.set")
        check_same_length(texts, source, "set': 'mean")
        edit = replace(edit, texts=[source])
    if body.positions is not None and not is_over_positions:  # then it is these that are edited
        edit = replace(edit, positions=trace.positions, from_positions=trace.positions)
    return SweepSpec(
        over=asked.over,
        edit=edit,
        layers=layers,
        positions=trace.positions if is_over_positions else [],
    )


def _check_work(body: InspectRequest, texts: Texts) -> None:
    """Raises `InvalidRequest` for texts that are too much together, each short enough by itself."""
    num_runs = 2 + body.noise  # without edits and with them
    num_tokens = num_runs * texts.length + sum(map(len, texts.ids)) + 2 * (body.continued or 0)
    cost = num_tokens * texts.model.info.num_layers
    if cost > MAX_EDITED_BLOCKS:
        raise refuse(
            "interventions",
            f"comes to {cost:,} tokens through a layer, with all texts that it takes from, at most "
            f"{MAX_EDITED_BLOCKS:,} are computed: cut the texts, name fewer, or ask for less "
            "'noise'.",
            "request_too_large",
        )


def _check_kept(sweep: SweepSpec | None, edits: list[EditSpec], texts: Texts) -> None:
    """Raises `InvalidRequest` for more numbers than are kept of texts for one request."""
    info = texts.model.info
    if sweep is not None:
        variants = variants_of(sweep, info.num_heads, info.kv_heads_of_layers)
        edits = [edit_of(sweep, variant) for variant in variants]
    lengths = [texts.length, *map(len, texts.ids)]
    num_bytes = sum(
        4 * lengths[text] * width_of(at, layer, lengths[text], info)
        for text, at, layer, _ in {place for edit in edits for place in places_of(edit)}
    )
    if num_bytes > MAX_KEPT_BYTES:
        raise refuse(
            "interventions" if sweep is None else "sweep",
            f"takes {num_bytes:,} bytes of numbers from texts, at most {MAX_KEPT_BYTES:,} are "
            "kept: cut the texts, or name fewer of them, or of 'layers'.",
            "request_too_large",
        )


def _check_cost(sweep: SweepSpec, num_tokens: int, info: ModelInfo) -> None:
    variants = variants_of(sweep, info.num_heads, info.kv_heads_of_layers)
    layers_left = [info.num_layers - max(variant.layer, sweep.edit.layer) for variant in variants]
    cost = num_tokens * sum(layers_left)
    if cost > MAX_ROW_BLOCKS:
        raise refuse(
            "sweep",
            f"comes to {cost:,} tokens through a layer, at most {MAX_ROW_BLOCKS:,} are computed: "
            "name fewer 'layers' or 'positions', or cut the text.",
            "request_too_large",
        )
