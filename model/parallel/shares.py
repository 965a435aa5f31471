"""Tensor parallelism: one model over several ranks, each with its share of every layer's weights.

A rank is the same transformer, only narrower (`rank_config`): heads and the MLP's channels are
dealt out. What reads the stream gives a rank's own heads and channels ("column parallel"); what
writes into it gives a partial sum, added up over the ranks ("row parallel"), twice a layer. The
head's rows are dealt out by token, its logits gathered. (Shoeybi et al. 2019, "Megatron-LM".)
Every rank keeps the embedding table whole: it is looked up, not multiplied, and dealing it out
would cost a sum a step. Nothing here knows of processes: `Ranks` is all it asks for.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.declare.parameter import Share
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec, ShortConvSpec, StateSpec

Sized = TypeVar(
    "Sized", ModelConfig, AttentionSpec, ExpertsSpec, ShortConvSpec, DeltaNetSpec, Mamba2Spec
)
WHOSE = {
    ModelConfig: "this model's",
    AttentionSpec: "this model's",
    ExpertsSpec: "its experts'",
    ShortConvSpec: "its states'",
    DeltaNetSpec: "its states'",
    Mamba2Spec: "its states'",
}


class Ranks(Protocol):
    """Those who compute one model together. They make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """Which of them this is: 0, 1, ..."""

    @property
    def size(self) -> int: ...

    def add_up(self, x: Tensor) -> Tensor:
        """The sum of all ranks' x, which may be overwritten: in fp32, then in x's dtype. Equal bits
        on every rank."""

    def gather(self, x: Tensor, dim: int) -> Tensor:
        """All ranks' x, of one shape, one after the other along `dim`, in order of rank."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A model in one piece."""

    rank: int = 0
    size: int = 1

    def add_up(self, x: Tensor) -> Tensor:
        return x

    def gather(self, x: Tensor, dim: int) -> Tensor:  # noqa: ARG002
        return x


ALONE = Alone()


def rank_config(config: ModelConfig, num_ranks: int) -> ModelConfig:
    """What one rank's layers look like. Raises ValueError if they cannot be dealt out evenly."""
    kept = () if config.keeps_latents else ("num_kv_heads",)  # a latent is everybody's
    sizes = ("num_heads", *kept, "intermediate_size")
    attention = tuple(_divided_spec(spec, config, num_ranks) for spec in config.attention)
    mlp_sizes = tuple(_part_of_mlp(size, config, num_ranks) for size in config.mlp_sizes)
    own = _divided(config, sizes, config, num_ranks, attention=attention, mlp_sizes=mlp_sizes)
    if config.experts is not None:
        spec = _divided(config.experts, ("intermediate_size", "shared_size"), config, num_ranks)
        own = replace(own, experts=spec)
    if config.state is not None:
        state: Any = config.state  # each kind has the sizes that it names
        _check_order(state, num_ranks)
        own = replace(own, state=_divided(state, state.dealt, config, num_ranks))
    if config.vocab_size < num_ranks**2:  # else the last rank could be left without a row
        raise ValueError(
            f"'--tensor-parallel' {num_ranks} needs {num_ranks**2} tokens in the vocabulary, "
            f"got {config.vocab_size}: use fewer ranks."
        )
    return own


def _check_order(spec: StateSpec, num_ranks: int) -> None:
    """Raises ValueError where a rank's value heads would not be those of its key heads."""
    if num_ranks > 1 and isinstance(spec, DeltaNetSpec) and spec.is_tiled:
        raise ValueError(
            f"'--tensor-parallel' {num_ranks} cannot deal out the heads of a gated delta net in "
            "the order of a GGUF file: use the model in safetensors, or one rank."
        )


def _divided_spec(spec: AttentionSpec, config: ModelConfig, num_ranks: int) -> AttentionSpec:
    """Where a layer's key heads are of another number than the model's."""
    if spec.num_kv_heads is None:
        return spec
    return _divided(spec, ("num_kv_heads",), config, num_ranks)


def _part_of_mlp(size: int, config: ModelConfig, num_ranks: int) -> int:
    """Where layers differ in it."""
    like = replace(config, intermediate_size=size)
    return _divided(like, ("intermediate_size",), config, num_ranks).intermediate_size


def _divided(
    sized: Sized, names: tuple[str, ...], config: ModelConfig, num_ranks: int, **more: Any
) -> Sized:
    """With these sizes a rank's own, and `more`. Raises ValueError if one cannot be dealt out."""
    for name in names:
        size = getattr(sized, name)
        if size % num_ranks:
            whose = WHOSE[type(sized)]
            raise ValueError(
                f"'--tensor-parallel' must divide {whose} '{name}' ({size}), "
                f"got {num_ranks}: use {_or(possible_ranks(config))}."
            )
    sizes = {name: getattr(sized, name) // num_ranks for name in names}
    return replace(sized, **sizes, **more)


def possible_ranks(config: ModelConfig) -> list[int]:
    num_kept = [config.num_kv_heads]  # of which num_heads is a multiple
    num_kept += [num_kv_heads for num_kv_heads, _ in config.kv_shapes]
    if config.keeps_latents:
        num_kept = [config.num_heads]
    sizes = [*num_kept, config.intermediate_size]
    sizes += config.mlp_sizes
    if config.experts is not None:
        sizes += [config.experts.intermediate_size, config.experts.shared_size]
    if config.state is not None:
        sizes += [getattr(config.state, name) for name in config.state.dealt]
    candidates = range(1, num_kept[0] + 1)
    return [n for n in candidates if not any(size % n for size in sizes)]


def _or(numbers: list[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def cut(x: Tensor, share: Share) -> Tensor:
    """What a rank keeps of a whole tensor [out, in] or [out]."""
    if share.is_zeros:
        return torch.zeros_like(x)
    rows = [x[part] for part in share.rows]
    own = rows[0] if len(rows) == 1 else torch.cat(rows)
    return own if share.columns is None else own[:, share.columns]


def gather_tokens(logits: Tensor, vocab_size: int, ranks: Ranks) -> Tensor:
    """Each rank's logits [S, its tokens] -> [S, vocab_size] on all of them."""
    if ranks.size == 1:
        return logits
    missing = -(-vocab_size // ranks.size) - logits.shape[-1]
    padded = F.pad(logits, (0, missing)) if missing else logits
    return ranks.gather(padded, dim=-1)[..., :vocab_size]


def sum_in_order(parts: list[Tensor]) -> Tensor:
    """The parts added one by one in fp32: the one order that no library chooses by the number of
    rows. Rounded once, to the parts' dtype."""
    total = parts[0].to(torch.float32, copy=True)
    for part in parts[1:]:
        total += part
    return total.to(parts[0].dtype)
