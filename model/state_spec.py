"""How a layer keeps a state of fixed size, in place of keys and values of all tokens.

A spec says what one sequence keeps in one such layer: named arrays, all in float32. What a layer
computes with them is in `model/parts/`; that they are kept, found again and thrown away, in
`model/state/` and in the engine, which both know no kinds.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

MAX_KERNEL = 8  # taps of a convolution
MAX_STATE_SIZE = 512  # of a head, on either side


@dataclass(frozen=True, slots=True)
class ShortConvSpec:
    """A convolution over the last `kernel` tokens, each channel by itself, between two gates
    (LFM2)."""

    channels: int
    kernel: int
    bias: bool = False

    dealt: ClassVar[tuple[str, ...]] = ("channels",)  # sizes that ranks share

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    @property
    def words(self) -> str:
        return f"a convolution of {self.kernel} tokens"

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """What a sequence keeps: shapes by name."""
        return {"conv": (self.kernel - 1, self.channels)}


@dataclass(frozen=True, slots=True)
class DeltaNetSpec:
    """The gated delta rule behind a short convolution (Qwen3-Next, Qwen3.5). Several value heads
    share a key head: neighbours, or if `is_tiled` every so many-th, as llama.cpp orders them."""

    num_key_heads: int
    num_value_heads: int
    key_size: int
    value_size: int
    kernel: int
    is_tiled: bool = False

    dealt: ClassVar[tuple[str, ...]] = ("num_key_heads", "num_value_heads")

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        if self.num_value_heads % self.num_key_heads:
            raise ValueError(
                f"'num_value_heads' ({self.num_value_heads}) must be a multiple of "
                f"'num_key_heads' ({self.num_key_heads})."
            )
        for name in ("key_size", "value_size"):
            if not 1 <= getattr(self, name) <= MAX_STATE_SIZE:
                raise ValueError(
                    f"'{name}' must be between 1 and {MAX_STATE_SIZE}, got {getattr(self, name)}."
                )

    @property
    def words(self) -> str:
        return f"gated delta net, {self.num_value_heads} of {self.key_size} x {self.value_size}"

    @property
    def channels(self) -> int:
        """Of queries, keys and values together."""
        keys = self.num_key_heads * self.key_size
        return 2 * keys + self.num_value_heads * self.value_size

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """What a sequence keeps: shapes by name."""
        return {
            "conv": (self.kernel - 1, self.channels),
            "delta": (self.num_value_heads, self.key_size, self.value_size),
        }

    def key_heads(self) -> list[int]:
        """The key head of each value head."""
        share = self.num_value_heads // self.num_key_heads
        heads = range(self.num_value_heads)
        return [h % self.num_key_heads if self.is_tiled else h // share for h in heads]

    def dealt_out(self, num_ranks: int) -> "DeltaNetSpec":
        """One rank's."""
        return replace(
            self,
            num_key_heads=self.num_key_heads // num_ranks,
            num_value_heads=self.num_value_heads // num_ranks,
        )


StateSpec = ShortConvSpec | DeltaNetSpec


def check_kernel(kernel: int) -> None:
    if not 2 <= kernel <= MAX_KERNEL:
        raise ValueError(f"'kernel' must be between 2 and {MAX_KERNEL}, got {kernel}.")
