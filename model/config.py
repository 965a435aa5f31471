"""What shape a transformer has: plain frozen data, read from a checkpoint, obeyed by `model/`.

Sizes carry Hugging Face's names (`hidden_size`, `intermediate_size`, `num_hidden_layers`), heads
carry `num_heads`, `num_kv_heads`, `head_dim`. Nothing here imports torch, so a checkpoint can be
described without loading one.
"""

from dataclasses import dataclass
from enum import StrEnum


class Norm(StrEnum):
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"


class Activation(StrEnum):
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    SILU = "silu"


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer contexts; `kind` is "linear" or "llama3"."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_position_embeddings: int = 0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary positions over the first `dim` of each head's `head_dim` channels."""

    theta: float
    dim: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One decoder-only transformer. `rope=None`: learned positions are added to the embeddings."""

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
    qk_norm: bool = False  # an RMSNorm over each query's and key's head_dim, as in Qwen3

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "max_position_embeddings",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1, got {getattr(self, name)}.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"'num_heads' ({self.num_heads}) must be a multiple of 'num_kv_heads' "
                f"({self.num_kv_heads})."
            )
