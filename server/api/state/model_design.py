"""Which of the choices that a transformer leaves open the served model made."""

from msgspec import Struct


class ExpertsDesign(Struct, frozen=True, kw_only=True):
    """`layers`: those whose MLP is many small ones, of which a token takes `num_chosen`."""

    num_experts: int
    num_chosen: int
    has_shared: bool  # one more that all tokens take
    layers: list[int]


class LatentDesign(Struct, frozen=True, kw_only=True):
    """All heads' keys and values are made of one vector a token, the latent, and that is kept."""

    size: int
    query_size: int | None = None  # of the one that queries are made of; none: of the stream
    key_dim: int  # of a head's query and key, with what is turned; its value has `head_dim`


class ModelDesign(Struct, frozen=True, kw_only=True):
    """Names are those of `model/config.py`, numbers are what the checkpoint says."""

    norm: str = ""  # "layer_norm", "rms_norm"
    norm_eps: float = 0.0
    pre_norm: bool = True  # attention and MLP read a normed copy of the stream
    post_norm: bool = False  # what they add is normed
    norms_stream: bool = False  # the stream itself is normed after each addition
    is_parallel: bool = False  # both read the same stream
    positions: str = ""  # "learned", "rotary", "alibi", "none"
    rope_theta: float | None = None
    rope_dim: int = 0  # channels of a head that are turned
    latent: LatentDesign | None = None
    qk_norm: bool = False  # queries and keys are normed
    score_divisor: float = 1.0  # of the products of queries and keys
    score_softcap: float | None = None  # scores then become softcap * tanh(score / softcap)
    gated_heads: bool = False  # what a head gathers is let through as the token that looks says
    sinks: bool = False  # a row of weights may add up to less than 1
    windows: list[int | None] = []  # keys that a query of each layer sees; none: all, in all layers
    chunks: list[int | None] = []  # likewise: it sees those of its own stretch of so many positions
    head_dims: list[int] = []  # of each layer; none: all are alike, as in the two below
    kv_heads: list[int] = []
    rope_dims: list[int] = []
    activation: str = ""
    gated_mlp: bool = False
    intermediate_size: int = 0
    vocab_size: int = 0
    tie_word_embeddings: bool = False
    experts: ExpertsDesign | None = None
    state_layers: list[int] = []  # which have no heads that look: they keep a state, or are an MLP
    lone_mlps: list[int] = []  # which are an MLP alone; where there are such, the others have none
    state_beside: bool = False  # each layer keeps a state beside its heads
    tensor_format: str = ""  # what most of the weights are stored in
