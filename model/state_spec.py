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
        check_sizes(self, "key_size", "value_size")

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


@dataclass(frozen=True, slots=True)
class Mamba2Spec:
    """A selective state space behind a short convolution (Mamba-2). Heads of a group share what
    they write by and are read by: neighbours."""

    num_heads: int
    num_groups: int
    head_size: int
    state_size: int
    kernel: int
    conv_bias: bool = True
    input_bias: bool = False
    output_bias: bool = False
    has_norm: bool = True  # over each group's heads together
    gates_first: bool = True  # of a norm: what it reads is gated, not what it gives

    dealt: ClassVar[tuple[str, ...]] = ("num_heads", "num_groups")

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        if self.num_heads % self.num_groups:
            raise ValueError(
                f"'num_heads' ({self.num_heads}) must be a multiple of 'num_groups' "
                f"({self.num_groups})."
            )
        check_sizes(self, "head_size", "state_size")

    @property
    def words(self) -> str:
        return f"Mamba-2, {self.num_heads} of {self.state_size} x {self.head_size}"

    @property
    def width(self) -> int:
        """Of all heads together."""
        return self.num_heads * self.head_size

    @property
    def channels(self) -> int:
        """Of all that is convolved: the heads' inputs, and B and C of all groups."""
        return self.width + 2 * self.num_groups * self.state_size

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """What a sequence keeps: shapes by name."""
        return {
            "conv": (self.kernel - 1, self.channels),
            "ssm": (self.num_heads, self.state_size, self.head_size),
        }

    def dealt_out(self, num_ranks: int) -> "Mamba2Spec":
        """One rank's."""
        return replace(
            self,
            num_heads=self.num_heads // num_ranks,
            num_groups=self.num_groups // num_ranks,
        )


StateSpec = ShortConvSpec | DeltaNetSpec | Mamba2Spec


def check_kernel(kernel: int) -> None:
    if not 2 <= kernel <= MAX_KERNEL:
        raise ValueError(f"'kernel' must be between 2 and {MAX_KERNEL}, got {kernel}.")


def check_sizes(spec: StateSpec, *names: str) -> None:
    for name in names:
        size = getattr(spec, name)
        if not 1 <= size <= MAX_STATE_SIZE:
            raise ValueError(f"'{name}' must be between 1 and {MAX_STATE_SIZE}, got {size}.")
