"""Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"): all heads' keys and values are
made of one vector a token, the latent, and that alone is kept.

    c = norm(W_c x)        k_h = (turn(W_r x), K_h c)        v_h = V_h c
    q_h = (turn(Q_h x), P_h x), perhaps of a latent of its own in place of x

A score is q_h . k_h = turn(Q_h x) . turn(W_r x) + (K_h^T P_h x) . c, so a query that has been led
through K_h looks at the latents themselves, and what it has seen of them is led through V_h: all
heads share one key, (turn(W_r x), c), of which the values are a part. That is the only form that
is computed here, for prompts as for single tokens, so that a token's bits do not depend on it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentSpec:
    size: int  # of the latent
    rope_size: int  # of the part of a key that is turned, which all heads share
    key_size: int  # of a head's key that is made of the latent
    value_size: int  # of a head's value
    query_size: int | None = None  # of the latent that queries are made of; None: of the stream
    norm_eps: float = 1e-6  # of the norms of latents

    def __post_init__(self) -> None:
        for name in ("size", "rope_size", "key_size", "value_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1, got {getattr(self, name)}.")

    @property
    def kept_size(self) -> int:
        """Of what is kept of a token: the turned part of its key, then the latent."""
        return self.rope_size + self.size

    @property
    def head_size(self) -> int:
        """Of a head's queries, before they are led to latents."""
        return self.rope_size + self.key_size
