"""Tables from a checkpoint's tensor names to the model's parameters.

An architecture writes its names once, with `{i}` for the layer:

    "layers.{i}.self_attn.q_proj.weight": TensorTarget("blocks.{i}.attention.qkv.weight", "q")

Likewise with `{e}` for an expert; where the tensor's name has none and the target's has, one tensor
holds all experts, one after the other.
A target may say how the tensor's layout differs from the model's `[out, in]`, rotate-half one.
Names that a checkpoint may hold and nobody needs are listed in `ignored`, with a layer's own number
or for all; rotary caches are such names everywhere; any other name is unknown.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thirdeye.model.declare.stored import StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

# What a config says already: rotary frequencies, cosines and sines, kept by older trainers.
ROTARY_CACHE = re.compile(
    r"(?:^|\.)(?:rotary_emb|rotary_pos_emb|rotary_emb_local|rotary_embed)"
    r"\.(?:inv_freq|original_inv_freq|cos_cached|sin_cached)$"
)
NUMBER = re.compile(r"(?<=\.)\d{1,6}(?=\.)")
Reorder = Callable[[Any], Any]  # a torch tensor or a numpy array -> the same, rows in another order


@dataclass(frozen=True, slots=True)
class TensorTarget:
    """Where a tensor goes: into the whole parameter `name`, or its `part`."""

    name: str
    part: str | None = None
    reorder: Reorder | None = None  # of the stored rows; what is in a row is not looked at
    is_transposed: bool = False  # stored [in, out], as GPT-2's Conv1D keeps it
    offset: float = 0.0  # what is missing in the stored numbers: Gemma's norms are kept less 1
    is_either_way: bool = False  # stored [out, in] or [in, out]: its shape says which
    is_row: bool = False  # stored [in], a matrix of one row
    num_pieces: int = 0  # the reverse: a vector, stored [num_pieces, of each]
    scale: float = 1.0  # what the stored numbers are multiplied by
    is_depthwise: bool = False  # stored [n, 1, k], taps of a convolution, a matrix
    expert: int | None = None  # which of `num_experts` that are stored in one tensor is meant
    num_experts: int = 0
    num_stored_rows: int = 0  # where `reorder` picks some of so many; 0: all of them are its own
    num_heads: int = 0  # stored [num_heads, rows of one, in]: so many matrices in place of one
    is_across: bool = False  # each of them is stored [in, rows of one]
    first_row: int = 0  # of the stored ones that is ours: nobody reads those before (OPT)

    def apply(self, tensor: "Tensor | StoredTensor") -> "Tensor | StoredTensor":
        """The tensor in the model's layout."""
        if isinstance(tensor, StoredTensor):
            assert not self.is_transposed, "no format with blocks keeps [in, out]"
            assert not self.offset, "nor norms"
            assert not self.first_row, "nor positions"
            assert not self.is_row, "nor vectors"
            assert not self.is_depthwise, "nor a few taps"
            assert self.scale == 1, "where there are scales they are in the blocks"
            if self.is_across:  # whose blocks lie across its rows
                return self.apply(_widened(tensor))
            if self.num_heads:
                return replace(tensor, shape=(len(tensor.blocks), tensor.shape[-1]))
            if self.expert is not None:
                tensor = tensor.expert(self.expert)
            if self.reorder is None:
                return tensor
            tensor = tensor.reordered(self.reorder)
            return replace(tensor, shape=(len(tensor.blocks), *tensor.shape[1:]))
        if self.expert is not None:
            tensor = tensor[self.expert]
        if self.is_row:
            tensor = tensor[None]
        if self.is_across:
            tensor = tensor.transpose(1, 2)
        if self.num_heads:
            tensor = tensor.flatten(0, 1)
        if self.num_pieces:
            tensor = tensor.reshape(-1)
        if self.is_depthwise:
            tensor = tensor[:, 0]
        if self.first_row:
            tensor = tensor[self.first_row :]
        if self.is_transposed:
            tensor = tensor.t()
        if self.offset:
            tensor = tensor.float() + self.offset
        if self.scale != 1:
            tensor = tensor.float() * self.scale
        return tensor if self.reorder is None else self.reorder(tensor)


@dataclass(frozen=True, slots=True)
class NameTable:
    names: Mapping[str, TensorTarget | tuple[TensorTarget, ...]]  # one, or one for some rows each
    ignored: frozenset[str]
    num_layers: int
    prefixes: tuple[str, ...] = ()  # a checkpoint may have one of these before its names
    num_experts: int = 0
    ignored_prefixes: tuple[str, ...] = ()  # of names of parts that nobody asks for
    ignored_layers: int = 0  # behind the last: they guess more tokens (`GuessingHead`)
    layer_numbers: tuple[int, ...] = ()  # in the file, of the model's: nobody reads those between
    _placed: dict[str, list[TensorTarget] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def place(self, name: str) -> list[TensorTarget] | None:
        """Where this tensor goes; `[]` if a rule says to ignore it, None if the name is unknown.

        Found once: whoever loads asks four times for each.
        """
        if name not in self._placed:
            self._placed[name] = self._find(name)
        return self._placed[name]

    def _find(self, name: str) -> list[TensorTarget] | None:
        own = self._without_prefix(name)
        pattern, layer = _split(own, "i")
        pattern = own if own in self.names else pattern  # a layer's that is unlike the others
        if layer is not None and self.layer_numbers:
            if layer not in self.layer_numbers:
                return None if layer > self.layer_numbers[-1] else []
            layer = self.layer_numbers.index(layer)
        if own in self.ignored or pattern in self.ignored or ROTARY_CACHE.search(name):
            return []
        if self.ignored_prefixes and name.startswith(self.ignored_prefixes):
            return []
        if layer is not None and 0 <= layer - self.num_layers < self.ignored_layers:
            return []
        expert = None
        if pattern not in self.names:
            pattern, expert = _split(pattern, "e")
        found = self.names.get(pattern)
        if found is None or (layer is not None and layer >= self.num_layers):
            return None
        if expert is not None and expert >= self.num_experts:
            return None
        if isinstance(found, tuple):
            return [replace(one, name=one.name.replace("{i}", str(layer))) for one in found]
        target = replace(found, name=found.name.replace("{i}", str(layer)))
        if "{e}" not in target.name:
            return [target]
        if expert is not None:
            return [replace(target, name=target.name.replace("{e}", str(expert)))]
        return [
            replace(
                target,
                name=target.name.replace("{e}", str(one)),
                expert=one,
                num_experts=self.num_experts,
            )
            for one in range(self.num_experts)
        ]

    def name_of(self, parameter: str) -> str:
        """What a file calls it, of those that no layer has."""
        found = self.names.items()
        return next(name for name, at in found if getattr(at, "name", None) == parameter)

    def _without_prefix(self, name: str) -> str:
        for prefix in self.prefixes:
            if name.startswith(prefix):
                return name.removeprefix(prefix)
        return name


def _widened(tensor: StoredTensor) -> "Tensor":
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    return torch.from_numpy(tensor.widen())


def _split(name: str, letter: str) -> tuple[str, int | None]:
    """ "layers.3.mlp" -> ("layers.{i}.mlp", 3)"""
    found = NUMBER.search(name)
    if found is None:
        return name, None
    return f"{name[: found.start()]}{{{letter}}}{name[found.end() :]}", int(found.group())


def with_bias(names: Mapping[str, TensorTarget]) -> dict[str, TensorTarget]:
    """Each `x.weight` entry, and the same for `x.bias`."""
    biases = {
        key.removesuffix("weight") + "bias": replace(
            target, name=target.name.removesuffix("weight") + "bias"
        )
        for key, target in names.items()
    }
    return {**names, **biases}


def rotate_half_rows(num_heads: int, rotary_dim: int | None = None) -> Reorder:
    """Undo an order of q's and k's rows in which rotary positions turn neighbours.

    Rotary position turns pairs of channels. `model.rope` and most of Hugging Face pair channel j
    with j + D/2. ggml pairs 2j with 2j + 1, so llama.cpp's converter interleaves the two halves of
    each head of llama-type models (`LlamaModel.permute` in its convert_hf_to_gguf.py), and some
    families (Cohere, GLM) are trained so; here the halves part again. `rotary_dim`: only so many
    channels of a head are turned, the first; None: all.
    """

    def undo(rows: Any) -> Any:
        height, *rest = rows.shape  # [num_heads * head_dim] or [num_heads * head_dim, of a row]
        head_dim = height // num_heads
        dim = rotary_dim or head_dim
        if dim == head_dim:
            interleaved = rows.reshape(num_heads, head_dim // 2, 2, *rest)
            return interleaved.swapaxes(1, 2).reshape(height, *rest)
        head = [*range(0, dim, 2), *range(1, dim, 2), *range(dim, head_dim)]
        starts = range(0, height, head_dim)
        return rows[[start + channel for start in starts for channel in head]]

    return undo
