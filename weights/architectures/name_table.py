"""Tables from a checkpoint's tensor names to the model's parameters.

An architecture writes its names once, with `{i}` for the layer:

    "layers.{i}.self_attn.q_proj.weight": Placement("blocks.{i}.attention.qkv.weight", "q")

A placement may carry a transform, for layouts that differ from the model's `[out, in]`, rotate-half
one. Names that a checkpoint may hold and nobody needs are listed in `ignored`; any other name is
unknown.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LAYER = re.compile(r"(?<=\.)\d{1,6}(?=\.)")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tensor goes: the whole parameter `name`, or its `part`, after `transform`."""

    name: str
    part: str | None = None
    transform: "Callable[[Tensor], Tensor] | None" = None

    @property
    def is_transposed(self) -> bool:
        """Whether the stored shape is the model's, reversed; other transforms keep the shape."""
        return self.transform is transpose

    def apply(self, tensor: "Tensor") -> "Tensor":
        """The tensor in the model's layout."""
        return tensor if self.transform is None else self.transform(tensor)


@dataclass(frozen=True, slots=True)
class NameTable:
    names: Mapping[str, Placement]
    ignored: frozenset[str]
    num_layers: int
    prefix: str = ""  # of all names, where a checkpoint has it

    def place(self, name: str) -> list[Placement] | None:
        """Where this tensor goes; `[]` if a rule says to ignore it, None if the name is unknown."""
        pattern, layer = self._split(name.removeprefix(self.prefix))
        if pattern in self.ignored:
            return []
        placement = self.names.get(pattern)
        if placement is None or (layer is not None and layer >= self.num_layers):
            return None
        return [replace(placement, name=placement.name.replace("{i}", str(layer)))]

    def _split(self, name: str) -> tuple[str, int | None]:
        """ "layers.3.mlp" -> ("layers.{i}.mlp", 3)"""
        found = LAYER.search(name)
        if found is None:
            return name, None
        return f"{name[: found.start()]}{{i}}{name[found.end() :]}", int(found.group())


def with_bias(names: Mapping[str, Placement]) -> dict[str, Placement]:
    """Each `x.weight` entry, and the same for `x.bias`; its transform must act on rows alone."""
    biases = {
        key.removesuffix("weight") + "bias": replace(
            placement, name=placement.name.removesuffix("weight") + "bias"
        )
        for key, placement in names.items()
    }
    return {**names, **biases}


def transpose(weight: "Tensor") -> "Tensor":
    """GPT-2's Conv1D keeps `[in, out]`."""
    return weight.t()


def rotate_half_rows(num_heads: int) -> "Callable[[Tensor], Tensor]":
    """Undo the row order that llama.cpp's converter gives to q and k of llama-type models.

    Rotary position turns pairs of channels. Hugging Face (and `model.rope`) pairs channel j with j
    + D/2, ggml pairs 2j with 2j + 1, so the converter interleaves the two halves of each head; here
    they part again. Source: `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py, inverted.
    """

    def undo(tensor: "Tensor") -> "Tensor":
        rows, *rest = tensor.shape  # [num_heads * head_dim] or [num_heads * head_dim, hidden_size]
        interleaved = tensor.reshape(num_heads, rows // num_heads // 2, 2, *rest)
        return interleaved.transpose(1, 2).reshape(rows, *rest)

    return undo
