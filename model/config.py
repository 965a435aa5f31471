"""What shape a transformer has: plain frozen data, read from a checkpoint, obeyed by `model/`.

Sizes carry Hugging Face's names (`hidden_size`, `intermediate_size`, `num_hidden_layers`), heads
carry `num_heads`, `num_kv_heads`, `head_dim`. Nothing here imports torch, so a checkpoint can be
described without loading one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.state_spec import StateSpec


class Norm(StrEnum):
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"


class Activation(StrEnum):
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    SILU = "silu"
    RELU = "relu"
    RELU2 = "relu2"
    XIELU = "xielu"  # with parameters of its own
    CLAMPED_SWIGLU = "clamped_swiglu"  # of a gate and its partner together (gpt-oss)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer contexts.

    `kind` is "linear", "dynamic", "llama3", "yarn", "longrope" or "proportional", see
    `model/parts/rope.py`. Those fields count that a kind is explained with there.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 0
    attention_factor: float = 1.0  # what cos and sin are multiplied by
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    is_truncated: bool = True
    short_factors: tuple[float, ...] = ()  # one for each pair of channels
    long_factors: tuple[float, ...] = ()
    num_pairs: int = 0  # of channels that are turned at all


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary positions over the first `dim` of each head's `head_dim` channels."""

    theta: float
    dim: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class Alibi:
    """Scores fall with the distance of a key, by a slope of each head's own, instead of positions
    (Press, Smith, Lewis 2021); `model/attention/alibi.py` has the slopes."""

    max_bias: float = 8.0  # the last slope is 2 ** -max_bias
    scale: float = 1.0  # of all slopes


@dataclass(frozen=True, slots=True)
class Temperature:
    """Queries grow with their position, so that many keys do not blur the softmax (Llama 4): by
    1 + beta * ln(1 + floor(position / length))."""

    beta: float
    length: int
    first: int = 0  # the number of the first position


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """How one layer's queries look at its keys; as it stands, the textbook's attention without
    positions.

    `sinks`: each head has a learned score that takes its share of the softmax and gives no value
    (gpt-oss), so that a query's weights add up to less than 1.
    """

    rope: RopeConfig | None = None  # how this layer turns queries and keys; None: not at all
    scale: float | None = None  # scores are query * key * scale; None: head_dim ** -0.5
    window: int | None = None  # keys that a query sees, its own included; None: all up to its own
    chunk: int | None = None  # and of its own stretch of so many positions alone (Llama 4)
    softcap: float | None = None  # scores become softcap * tanh(score / softcap) (Gemma 2)
    sinks: bool = False
    alibi: Alibi | None = None
    temperature: Temperature | None = None  # None: queries stay as they are
    head_dim: int | None = None  # of this layer's heads; None: the model's
    num_kv_heads: int | None = None  # likewise
    has_values: bool = True  # projected; else the keys are, as they are projected (Gemma 4)
    source: int | None = None  # the layer whose keys and values it reads; None: its own
    unit_norm_eps: float | None = None  # of turned queries' and keys' norms, without a weight
    latent: LatentSpec | None = None  # what keys and values are made of; None: of the stream

    def __post_init__(self) -> None:
        for name in ("scale", "window", "chunk", "softcap", "head_dim", "num_kv_heads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"'{name}' must be above 0, or None for none, got {value}.")

    def divisor(self, head_dim: int) -> float:
        """What the products of queries and keys are divided by."""
        return math.sqrt(head_dim) if self.scale is None else 1 / self.scale


TEXTBOOK = AttentionSpec()


@lru_cache(maxsize=16)  # a config's layers ask again and again
def _textbook(rope: RopeConfig | None) -> AttentionSpec:
    return AttentionSpec(rope=rope)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One decoder-only transformer.

    `rope=None`: learned positions are added to the embeddings, if no layer has ALiBi. `attention`
    has one spec a layer, in order; empty: all layers see all keys, turned by `rope`. Where it is
    not empty it alone says which layers turn what: a model without any positions has a `rope`, and
    gives it to no layer.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    norm: Norm
    norm_eps: float
    activation: Activation
    gated_mlp: bool
    rope: RopeConfig | None
    qkv_bias: bool
    attention_output_bias: bool
    mlp_bias: bool
    tie_word_embeddings: bool
    attention_gate: bool = False  # what heads saw is gated, channel by channel (Qwen3-Next)
    qk_norm: bool = False  # an RMSNorm over each query's and key's head_dim, as in Qwen3
    norms_turned: bool = False  # the same, after they were turned (Hunyuan)
    wide_qk_norm: bool = False  # one over all queries' heads together, one over all keys' (OLMo 2)
    head_qk_norm: bool = False  # a LayerNorm of its own for each head (Command R+, StableLM 2 12B)
    value_norm: bool = False  # an RMSNorm over each value's head_dim, without a weight (Gemma 4)
    norm_weight: bool = True  # of the stream's norms: OLMo 1 and nanochat have none
    norm_bias: bool = True  # of a LayerNorm
    pre_norm: bool = True  # attention and MLP read a normed copy of the stream
    post_norm: bool = False  # what they add to the stream is normed (Gemma 2, OLMo 2)
    is_parallel: bool = False  # both read the stream as it comes into the block (GPT-NeoX)
    shares_norm: bool = False  # and by one norm (Cohere)
    clip_qkv: float | None = None  # queries, keys and values are cut to +- so much (OLMo 1, MPT)
    head_bias: bool = False  # of the head that makes logits (GPT-J, Phi-2)
    norms_stream: bool = False  # the stream itself is normed after each addition (OPT 350M)
    final_norm: bool = True  # and before the head
    embedding_size: int | None = None  # of tokens' vectors; None: hidden_size (OPT 350M has less)
    embedding_norm: bool = False  # they are normed (BLOOM)
    embedding_scale: float = 1.0  # tokens' vectors are multiplied by it (Gemma)
    residual_scale: float = 1.0  # and what attention and MLP add to the stream (Granite)
    layer_scale: bool = False  # and the stream behind a layer, by a number of its own (Gemma 4)
    layer_input_size: int = 0  # of what each layer is told of a token besides; 0: nothing (Gemma 4)
    mlp_sizes: tuple[int, ...] = ()  # one a layer, where they are not all `intermediate_size`
    logit_scale: float = 1.0  # and the logits (Cohere)
    logit_softcap: float | None = None  # which become softcap * tanh(logit / softcap) (Gemma 2)
    attention: tuple[AttentionSpec, ...] = ()
    experts: ExpertsSpec | None = None  # in place of the MLP, but in `dense_layers`
    experts_beside: bool = False  # but beside the MLP, both with norms of their own (Gemma 4)
    dense_layers: tuple[int, ...] = ()  # counted from 0
    state: StateSpec | None = None  # in place of attention, in `state_layers`
    state_layers: tuple[int, ...] = ()  # counted from 0, in order
    state_beside: bool = False  # in all layers, and beside attention (Falcon-H1)
    # The stream begins with another model's hidden states beside the tokens' vectors: a head that
    # guesses one more token (MTP of DeepSeek V3).
    reads_hidden: bool = False
    lone_mlps: tuple[int, ...] = ()  # layers that are one; others have none then (Nemotron-H)
    # What stored weights are multiplied by as they are loaded, by the reader's names (Falcon-H1).
    weight_scales: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where settings do not go together."""
        from thirdeye.model.declare.check_config import check  # noqa: PLC0415  # it knows this file

        check(self)

    def mlp_size_of(self, layer: int) -> int:
        """How wide one layer's MLP is, counted from 0."""
        return self.mlp_sizes[layer] if self.mlp_sizes else self.intermediate_size

    def experts_of(self, layer: int) -> ExpertsSpec | None:
        """Of one layer, counted from 0; None: it has one MLP for all tokens, or none."""
        has_none = layer in self.dense_layers or layer not in self.mlp_layers
        return None if has_none else self.experts

    @property
    def mlp_layers(self) -> Sequence[int]:
        """Those that have an MLP, or experts."""
        return self.lone_mlps or range(self.num_hidden_layers)  # each layer asks whether it is one

    def state_of(self, layer: int) -> StateSpec | None:
        """Of one layer, counted from 0; None: it keeps none."""
        return self.state if layer in self.state_layers else None

    @property
    def attending_layers(self) -> tuple[int, ...]:
        """Those whose tokens look at others, counted from 0, in order."""
        others = self.lone_mlps if self.state_beside else self.lone_mlps + self.state_layers
        return tuple(layer for layer in range(self.num_hidden_layers) if layer not in others)

    @property
    def keeping_layers(self) -> tuple[int, ...]:
        """Those of them that keep keys and values of their own."""
        attending = self.attending_layers
        return tuple(layer for layer in attending if self.attention_of(layer).source is None)

    @property
    def kv_shapes(self) -> tuple[tuple[int, int], ...]:
        """(num_kv_heads, head_dim) of each layer that keeps keys and values, in order."""
        layers = self.keeping_layers
        return tuple((self.num_kv_heads_of(layer), self.head_dim_of(layer)) for layer in layers)

    @property
    def kv_vectors(self) -> int:
        """How many keys and values a token leaves, over all layers and heads."""
        kept = zip(self.kv_shapes, self.value_starts, strict=True)
        return sum((2 if start is None else 1) * num_heads for (num_heads, _), start in kept)

    @property
    def kv_numbers(self) -> int:
        """How many numbers these have together."""
        kept = zip(self.kv_shapes, self.value_starts, strict=True)
        return sum((2 if start is None else 1) * heads * size for (heads, size), start in kept)

    @property
    def value_starts(self) -> tuple[int | None, ...]:
        """Of each layer that keeps keys and values, in order: from which of a key's channels on it
        is the value too; None: values are kept beside."""
        specs = (self.attention_of(layer).latent for layer in self.keeping_layers)
        return tuple(None if spec is None else spec.rope_size for spec in specs)

    @property
    def keeps_latents(self) -> bool:
        """In place of keys and values, in all layers."""
        return any(spec.latent for spec in self.attention)

    def index_of_its_kind(self, layer: int) -> int:
        """How many layers before it keep what it keeps, keys and values or a state, or both; of a
        layer that reads another's, how many before that one."""
        if layer not in self.attending_layers:
            return sum(other < layer for other in self.state_layers)
        source = self.attention_of(layer).source
        keeping = layer if source is None else source
        return sum(other < keeping for other in self.keeping_layers)

    @property
    def has_learned_positions(self) -> bool:
        return self.rope is None and not any(spec.alibi for spec in self.attention)

    def attention_of(self, layer: int) -> AttentionSpec:
        """How one layer attends, counted from 0."""
        return self.attention[layer] if self.attention else _textbook(self.rope)

    def head_dim_of(self, layer: int) -> int:
        """Of one layer's heads, counted from 0."""
        return self.attention_of(layer).head_dim or self.head_dim

    def value_dim_of(self, layer: int) -> int:
        """Of what one head of a layer gives to the output, counted from 0."""
        latent = self.attention_of(layer).latent
        return self.head_dim_of(layer) if latent is None else latent.value_size

    def num_kv_heads_of(self, layer: int) -> int:
        """Of one layer, counted from 0."""
        return self.attention_of(layer).num_kv_heads or self.num_kv_heads

    def told_kv_heads_of(self, layer: int) -> int:
        """Of those that a look tells of: where one latent is kept, each head makes its own."""
        latent = self.attention_of(layer).latent
        return self.num_kv_heads_of(layer) if latent is None else self.num_heads
