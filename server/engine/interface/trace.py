"""What crosses the engine's border when somebody looks inside: plain data, like `types.py`.

    TraceRequest -> Engine.inspect() -> Trace, Trace, ... Trace(is_last=True)

Numbers travel as the bytes of little-endian float32 arrays: a pattern has millions of them.
"""

from msgspec import Struct

from thirdeye.server.engine.interface.interventions import EditSpec, SweepSpec

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")  # order of `norms`
VECTORS = ("q", "k", "v", "q_normed", "k_normed", "v_normed", "rot_q", "rot_k", "z")  # of heads
OF_KV_HEADS = ("k", "v", "k_normed", "v_normed", "rot_k")
HEADS = (*VECTORS, "scores", "result", "value_norms")
ARRAYS = ("pattern", "norms", *STREAM, *HEADS, "norm_stats", "neurons", "routing")  # of each layer
HEAD_KINDS = ("previous_token", "duplicate_token", "induction")  # order of `head_scores`
ENDINGS = ("surprisal", "attribution", "head_scores")  # of all layers together

FAILED = "The engine failed while it looked inside. Please try again."
UNABLE = "This engine cannot be looked into."


class VocabularyQuery(Struct, frozen=True, kw_only=True):
    """Embeddings of tokens: how close they lie, and what lies closest."""

    tokens: list[int]
    num_nearest: int
    is_centred: bool


class TraceRequest(Struct, frozen=True, kw_only=True):
    """One text to look at. It is already valid: whoever builds it has checked each limit."""

    request_id: str
    token_ids: list[int]
    layers: list[int]  # whose traces are sent; all of them are computed
    arrays: list[str] = []  # names out of ARRAYS
    heads: list[int] = []  # query heads that are told; none: all
    positions: list[int] = []  # tokens that are told; none: all
    has_masked_scores: bool = False  # scores of keys that lie ahead are told too, not NaN
    num_neurons: int = 10  # the largest of each token
    has_lens: bool = False  # of every layer, or of the last trace alone
    lens_positions: list[int] = []  # where the logit lens is read
    lens_tokens: list[int] = []  # followed through it
    num_top: int = 5  # guesses at each of them
    endings: list[str] = []  # names out of ENDINGS
    compare: list[int] = []  # one token or two to attribute; none: the likeliest two
    vocabulary: VocabularyQuery | None = None  # then nothing else is looked at
    edits: list[EditSpec] = []  # then what is told is of the edited run
    sweep: SweepSpec | None = None  # then no layer is told
    texts: list[list[int]] = []  # others, that edits take numbers from
    num_noise: int = 0  # runs to measure the noise floor with
    num_continued: int = 0  # tokens to go on by, with edits and without
    tenant: str = ""  # whose it is, as in `Request`
    adapter: int = 0  # that it is computed with, as in `Request`


class Array(Struct, frozen=True, array_like=True):
    """float32, little-endian, row-major."""

    shape: list[int]
    data: bytes


Guesses = list[tuple[int, float]]  # (token id, logprob), likeliest first


class Trace(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one layer did; the last trace is what came of it all.

    `lens` has one entry for each of `lens_positions`: of a layer, the logit lens at its
    `resid_pre`; of the last trace, the model's next-token distribution. `arrays` of the last trace
    are what `endings` ask for, see `layer_inspector.py`.
    """

    request_id: str
    layer: int = -1  # -1 on the last
    arrays: dict[str, Array] = {}
    lens: list[Guesses] = []
    base_lens: list[Guesses] = []  # the last trace's `lens` without edits
    continued: list[list[int]] = []  # token ids: without edits, and with them
    compare: list[int] = []  # the tokens whose logits were compared
    token_ids: list[int] = []  # the text that `head_scores` are of
    is_last: bool = False
    error: str | None = None  # with is_last: fit for a client's eyes
