"""What a look into the model tells: in one piece, or as the events of a stream.

Which of a layer's arrays are there is the caller's choice (`include`). They are rounded numbers in
nested lists, or packed (`encoding_format`); `dims` names what each dimension counts.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count


class InspectedToken(Struct):
    """One token of the text; U+FFFD in `token` stands for bytes that are no whole character."""

    id: Count
    token: str
    bytes: list[Count]


class GuessedToken(Struct):
    id: Count
    token: str
    logprob: float


class PackedArray(Struct):
    """Little-endian and row-major, in base64."""

    shape: list[Count]
    dtype: Literal["float32"]
    data: str


Numbers = list[Any] | PackedArray
Guessed = list[list[GuessedToken]]  # likeliest first, at each of `lens_positions`


class InspectedLayer(Struct, kw_only=True):
    layer: Count
    pattern: Numbers | UnsetType = UNSET
    norms: dict[str, list[float]] | UnsetType = UNSET
    resid_pre: Numbers | UnsetType = UNSET
    attn_out: Numbers | UnsetType = UNSET
    resid_mid: Numbers | UnsetType = UNSET
    mlp_out: Numbers | UnsetType = UNSET
    resid_post: Numbers | UnsetType = UNSET
    logit_lens: Guessed | UnsetType = UNSET


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
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count
    hidden_size: Count
    parameters: dict[str, Count]


class WholeInspection(InspectionHead, kw_only=True, tag_field="object", tag="inspection"):
    next_token: Guessed
    layers: list[InspectedLayer]


class InspectionStart(InspectionHead, tag_field="object", tag="inspection.start"):
    """The first event."""


class InspectionLayer(InspectedLayer, tag_field="object", tag="inspection.layer"):
    """One of these for each layer."""


class InspectionEnd(Struct, tag_field="object", tag="inspection.end"):
    next_token: Guessed


InspectionEvent = InspectionStart | InspectionLayer | InspectionEnd
