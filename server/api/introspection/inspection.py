"""What a look into the model tells: in one piece, or as the events of a stream.

Which of a layer's arrays are there is the caller's choice (`include`). They are rounded numbers in
nested lists, or packed (`encoding_format`); `dims` names what each dimension counts.
"""

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.introspection.inspection_numbers import Numbers
from thirdeye.server.api.introspection.interventions.effect_answers import (
    InterventionOutcome,
    MeasuredNoise,
    SweptOutcome,
)
from thirdeye.server.api.state.model_design import ModelDesign


class InspectedToken(Struct):
    """One token of the text; U+FFFD in `token` stands for bytes that are no whole character."""

    id: Count
    token: str
    bytes: list[Count]


class GuessedToken(Struct):
    id: Count
    token: str
    logprob: float


Guessed = list[list[GuessedToken]]  # likeliest first, at each of `lens_positions`


class FollowedToken(Struct):
    """One of `lens_tokens`; `rank`: how many tokens were likelier."""

    id: Count
    logprob: float
    rank: Count


class Neuron(Struct):
    index: Count
    value: float


class AskedExpert(Struct):
    """One that a token asks; `weight`: of what it says."""

    index: Count
    weight: float


Followed = list[list[FollowedToken]]  # in the order of `lens_tokens`, at each of `lens_positions`


class InspectedLayer(Struct, kw_only=True):
    layer: Count
    pattern: Numbers | UnsetType = UNSET
    norms: dict[str, list[float]] | UnsetType = UNSET
    resid_pre: Numbers | UnsetType = UNSET
    attn_out: Numbers | UnsetType = UNSET
    resid_mid: Numbers | UnsetType = UNSET
    mlp_out: Numbers | UnsetType = UNSET
    resid_post: Numbers | UnsetType = UNSET
    kv_heads: list[Count] | UnsetType = UNSET  # those of this layer, where layers differ in them
    q: Numbers | UnsetType = UNSET
    k: Numbers | UnsetType = UNSET
    v: Numbers | UnsetType = UNSET
    q_normed: Numbers | UnsetType = UNSET
    k_normed: Numbers | UnsetType = UNSET
    v_normed: Numbers | UnsetType = UNSET
    rot_q: Numbers | UnsetType = UNSET
    rot_k: Numbers | UnsetType = UNSET
    scores: Numbers | UnsetType = UNSET
    z: Numbers | UnsetType = UNSET
    result: Numbers | UnsetType = UNSET
    value_norms: Numbers | UnsetType = UNSET
    norm_stats: Numbers | UnsetType = UNSET
    neurons: list[list[Neuron]] | UnsetType = UNSET  # largest first, of each token
    routing: list[list[AskedExpert]] | UnsetType = UNSET  # best first
    logit_lens: Guessed | UnsetType = UNSET
    lens_tokens: Followed | UnsetType = UNSET


class Surprisal(Struct):
    """Of each token but the first, what was thought of it: -log p in nats, how many tokens were
    likelier, and the entropy in nats of all that was expected there."""

    nats: list[float]
    rank: list[Count]
    entropy: list[float]


class AttributedLogit(Struct, kw_only=True):
    """`logit` of the first of `tokens`, less the second's, at the last token: the sum of all parts
    below. `scale`: what the final norm divides by, held at that for all of them."""

    tokens: list[InspectedToken]
    logit: float
    scale: float | None
    embed: float
    positions: float
    heads: list[list[float]]  # layer, head; zeros in a layer without heads
    attention_bias: list[float]  # of each layer, as all below
    attention_rest: list[float]  # what attention added less what it is made of
    state: list[float]  # that a layer keeps in place of keys, or beside them
    mlp: list[float]
    layer_input: list[float]  # what a layer is told of the token besides the stream
    stream_bias: list[float]  # of norms of the stream itself
    final_bias: float
    stream_rounding: float
    head_rounding: float


class HeadScores(Struct):
    """Of each head, the share of its weight that lies where a head of each kind looks, on random
    tokens that are repeated."""

    token_ids: list[Count]
    kinds: dict[str, list[list[float | None]]]  # layer, head; null in a layer without heads


class Continuation(Struct):
    """How the text goes on, greedily: as it is, and with the interventions."""

    base: list[InspectedToken]
    changed: list[InspectedToken]


class InspectionHead(Struct, kw_only=True):
    """What is known before the model has looked: the text, and the model's shape."""

    id: str
    created: Count  # unix seconds
    model: str
    system_fingerprint: str
    tokens: list[InspectedToken]
    dims: dict[str, list[str]]
    layer_numbers: list[Count]
    lens_positions: list[Count]
    heads: list[Count]
    kv_heads: list[Count]  # those that the heads look at
    positions: list[Count]
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    hidden_size: Count
    parameters: dict[str, Count]
    design: ModelDesign
    untold: dict[str, str]  # what cannot be asked of this model -> why


class WholeInspection(InspectionHead, kw_only=True, tag_field="object", tag="inspection"):
    """The fields of all events, the layers in a list."""

    next_token: Guessed
    lens_tokens: Followed | UnsetType = UNSET
    norm_stats: Numbers | UnsetType = UNSET
    surprisal: Surprisal | UnsetType = UNSET
    attribution: AttributedLogit | UnsetType = UNSET
    head_scores: HeadScores | UnsetType = UNSET
    compare: list[InspectedToken] | UnsetType = UNSET
    base: InterventionOutcome | UnsetType = UNSET  # the text as it is; so is `base_next_token`
    base_next_token: Guessed | UnsetType = UNSET  # at the last token
    changed: InterventionOutcome | UnsetType = UNSET
    source: InterventionOutcome | UnsetType = UNSET  # the text that edits take from, as it is
    noise: MeasuredNoise | UnsetType = UNSET
    continued: Continuation | UnsetType = UNSET
    layers: list[InspectedLayer]
    variants: list[SweptOutcome] | UnsetType = UNSET  # of a sweep, in order


class InspectionStart(InspectionHead, tag_field="object", tag="inspection.start"):
    """The first event."""


class InspectionLayer(InspectedLayer, tag_field="object", tag="inspection.layer"):
    """One of these for each layer."""


class InspectionSweep(Struct, tag_field="object", tag="inspection.sweep"):
    """Variants of a sweep, as they are done."""

    variants: list[SweptOutcome]


class InspectionEnd(Struct, kw_only=True, tag_field="object", tag="inspection.end"):
    """What is known when all layers are: `norm_stats` are the final norm's."""

    next_token: Guessed
    lens_tokens: Followed | UnsetType = UNSET
    norm_stats: Numbers | UnsetType = UNSET
    surprisal: Surprisal | UnsetType = UNSET
    attribution: AttributedLogit | UnsetType = UNSET
    head_scores: HeadScores | UnsetType = UNSET
    compare: list[InspectedToken] | UnsetType = UNSET
    base: InterventionOutcome | UnsetType = UNSET  # the text as it is; so is `base_next_token`
    base_next_token: Guessed | UnsetType = UNSET  # at the last token
    changed: InterventionOutcome | UnsetType = UNSET
    source: InterventionOutcome | UnsetType = UNSET  # the text that edits take from, as it is
    noise: MeasuredNoise | UnsetType = UNSET
    continued: Continuation | UnsetType = UNSET


InspectionEvent = InspectionStart | InspectionLayer | InspectionSweep | InspectionEnd
