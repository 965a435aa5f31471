"""A form of quantized checkpoint: how a weight becomes tensors, and what these stand for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

Encoded = tuple[dict[str, Tensor], Tensor]  # by the ends of their names; and the weight they are


@dataclass(frozen=True, slots=True)
class Form:
    """`encode` takes a weight [out, in], and loops where that is plainer. `shown` is what a look
    into the checkpoint calls it."""

    settings: Mapping[str, Any]  # config.json's quantization_config
    encode: Callable[[Tensor], Encoded]
    shown: str
    wide: tuple[str, ...] = ()  # what it calls the one module that has more bits
    skipped: tuple[str, ...] = ("lm_head",)
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # further tensors of every module


@torch.no_grad()
def save_quantized(model: PreTrainedModel, folder: Path, form: Form) -> Path:
    """The model's checkpoint with every linear layer in this form, but those that are skipped. The
    model itself is given the weights that the tensors stand for."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name not in form.skipped:
            parts, dense = form.encode(module.weight)
            module.weight.copy_(dense)
            tensors.pop(f"{name}.weight", None)
            named = {**parts, **form.extra}
            tensors |= {f"{name}.{end}": part.contiguous().clone() for end, part in named.items()}
    save_file(tensors, folder / "model.safetensors")
    write_settings(folder, form.settings)
    return folder


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"quantization_config": dict(settings)})
    )


def words_of(numbers: list[int], bits: int) -> list[int]:
    """A stream of bits, lowest first, cut into signed 32-bit words."""
    stream = sum(number << bits * i for i, number in enumerate(numbers))
    unsigned = [stream >> 32 * i & 0xFFFFFFFF for i in range(-(-len(numbers) * bits // 32))]
    return [word - (1 << 32) if word >> 31 else word for word in unsigned]


def pack_along_rows(numbers: Tensor, bits: int) -> Tensor:
    """[n, k] -> [n, k bits / 32]"""
    return torch.tensor([words_of(row, bits) for row in numbers.tolist()], dtype=torch.int32)


def to_integers(
    weight: Tensor, bits: int, group_of: list[int], seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Some numbers q [out, in] up to 2^bits - 1, zero points and half-precision scales [out,
    groups] that are about this weight: what matters is which number gets which scale."""
    generator = torch.Generator().manual_seed(seed)
    height, groups = len(weight), max(group_of) + 1
    top = (1 << bits) - 1
    zero = torch.randint(1, top, (height, groups), generator=generator)
    scale = (torch.rand(height, groups, generator=generator) + 0.5) * weight.std() * 2 / top
    scale = scale.half()
    q = weight / scale[:, group_of].float() + zero[:, group_of]
    return q.round().clamp(0, top).to(torch.int64), zero, scale


def from_integers(q: Tensor, zero: Tensor, scale: Tensor, group_of: list[int]) -> Tensor:
    """The definition, number by number."""
    rows = [
        [
            (number - zeros[group]) * scales[group]
            for number, group in zip(numbers, group_of, strict=True)
        ]
        for numbers, zeros, scales in zip(q.tolist(), zero.tolist(), scale.tolist(), strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64).float()
