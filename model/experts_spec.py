"""How a layer's MLP is made of many small ones, of which each token takes a few.

Router and experts differ between families in data alone. Scores of all experts come from one small
matrix; the best `num_chosen` compute, and what they say is added up by weight. Softmax over the
chosen ones' scores alone is softmax over all, renormalized.
"""

from dataclasses import dataclass
from enum import StrEnum

MAX_GROUPS = 64


class Scoring(StrEnum):
    """What becomes of the router's logits."""

    SOFTMAX = "softmax"  # over all experts
    SIGMOID = "sigmoid"  # each by itself


@dataclass(frozen=True, slots=True)
class ExpertsSpec:
    """`num_groups`: experts lie in groups of equally many, and only those of the best
    `num_chosen_groups` may be chosen; a group is as good as its best `best_of_group` together."""

    num_experts: int
    num_chosen: int  # by a token
    intermediate_size: int  # of one of them
    scoring: Scoring = Scoring.SOFTMAX
    is_renormalized: bool = False  # a token's weights add up to 1
    scale: float = 1.0  # of all weights
    choice_bias: bool = False  # a number for each decides with, and weighs nothing (DeepSeek V3)
    num_groups: int = 1
    num_chosen_groups: int = 1
    best_of_group: int = 2
    scales_input: bool = False  # by a token's weights: what experts say is added as it is (Llama 4)
    expert_scales: bool = False  # what an expert says weighs so much more, by its own (Gemma 4)
    router_bias: bool = False
    bias: bool = False  # of the experts' own layers
    shared_size: int = 0  # how wide the MLP is that all tokens take beside; 0: there is none
    shared_gate: bool = False  # which a token takes by its sigmoid (Qwen2)

    def __post_init__(self) -> None:
        for name in ("num_experts", "num_chosen", "intermediate_size", "num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1, got {getattr(self, name)}.")
        if self.num_groups > MAX_GROUPS:
            raise ValueError(f"'num_groups' must be at most {MAX_GROUPS}, got {self.num_groups}.")
        if self.num_experts % self.num_groups:
            raise ValueError(
                f"'num_groups' ({self.num_groups}) must divide 'num_experts' ({self.num_experts})."
            )
        if not 1 <= self.num_chosen_groups <= self.num_groups:
            raise ValueError(
                f"'num_chosen_groups' must be between 1 and 'num_groups' ({self.num_groups}), "
                f"got {self.num_chosen_groups}."
            )
        in_reach = self.num_experts // self.num_groups * self.num_chosen_groups
        if self.num_chosen > in_reach:
            raise ValueError(
                f"'num_chosen' ({self.num_chosen}) must be at most the {in_reach} experts that "
                "there are to choose from."
            )
        if (
            self.num_groups > 1
            and not 1 <= self.best_of_group <= self.num_experts // self.num_groups
        ):
            raise ValueError(
                f"'best_of_group' must be between 1 and the size of a group "
                f"({self.num_experts // self.num_groups}), got {self.best_of_group}."
            )
        if self.shared_gate and not self.shared_size:
            raise ValueError("'shared_gate' is for a shared expert: give 'shared_size'.")
