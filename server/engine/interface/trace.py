"""What crosses the engine's border when somebody looks inside: plain data, like `types.py`.

    TraceRequest -> Engine.inspect() -> Trace, Trace, ... Trace(is_last=True)

Numbers travel as the bytes of little-endian float32 arrays: a pattern has millions of them.
"""

from msgspec import Struct

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")  # order of `norms`
ARRAYS = ("pattern", "norms", *STREAM)

FAILED = "The engine failed while it looked inside. Please try again."
UNABLE = "This engine cannot be looked into."


class TraceRequest(Struct, frozen=True, kw_only=True):
    """One text to look at. It is already valid: whoever builds it has checked each limit."""

    request_id: str
    token_ids: list[int]
    layers: list[int]  # whose traces are sent; all of them are computed
    arrays: list[str] = []  # names out of ARRAYS
    has_lens: bool = False  # of every layer, or of the last trace alone
    lens_positions: list[int] = []  # where the logit lens is read
    num_top: int = 5  # guesses at each of them
    tenant: str = ""  # whose it is, as in `Request`


class Array(Struct, frozen=True, array_like=True):
    """float32, little-endian, row-major."""

    shape: list[int]
    data: bytes


Guesses = list[tuple[int, float]]  # (token id, logprob), likeliest first


class Trace(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one layer did; the last trace is what came of it all.

    `lens` has one entry for each of `lens_positions`: of a layer, the logit lens at its
    `resid_pre`; of the last trace, the model's next-token distribution.
    """

    request_id: str
    layer: int = -1  # -1 on the last
    arrays: dict[str, Array] = {}
    lens: list[Guesses] = []
    is_last: bool = False
    error: str | None = None  # with is_last: fit for a client's eyes
