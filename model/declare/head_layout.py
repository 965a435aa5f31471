"""How heads lie in what a layer's first projection gives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """Queries, then keys, then values, side by side; of one rank."""

    num_heads: int
    num_kv_heads: int  # 0: those of another layer are read, and nothing is kept
    has_values: bool = True  # else the keys are values too, as they are projected
    value_eps: float | None = None  # of the norm, without a weight, over each value; None: no norm
    keeps_values: bool = True  # else they are a part of the key that is kept

    @property
    def first_value(self) -> int:
        """The number of the first value's head."""
        return self.num_heads + self.num_kv_heads * self.has_values
