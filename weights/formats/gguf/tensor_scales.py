"""One more number for a whole tensor: `blk.0.ffn_up.scale` beside `blk.0.ffn_up.weight`, or one for
each expert of a stack. NVFP4's blocks come with such, as their own scales have but 8 bits.

An `input_scale` beside them is for those who round what comes in as well; nobody does here.

Source: `load_tensors` in llama.cpp's llama-model.cpp.
"""

from collections.abc import Callable, Mapping

import numpy as np

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.blocks.block_fields import Floats
from thirdeye.weights.formats.gguf.dequantize import dequantize
from thirdeye.weights.formats.gguf.reader import GGUFFile

WEIGHT, SCALE, INPUT_SCALE = ".weight", ".scale", ".input_scale"


class TensorScales:
    """`names`: of the tensors that are no weights of their own but scales."""

    def __init__(self, file: GGUFFile, has_place: Callable[[str], bool]) -> None:
        """`has_place`: of a tensor's name; one that has is no scale, whatever it is called. Raises
        `ModelFormatError` for a scale that has not one number, or one an expert, or
        one that is not finite."""
        homeless = [name for name in file.tensors if not has_place(name)]
        weights = {name: _weight_of(name) for name in homeless if _weight_of(name) in file.tensors}
        self.names = frozenset(name for name, weight in weights.items() if has_place(weight))
        self._scales: Mapping[str, Floats] = {
            weights[name]: _read(file, name, weights[name])
            for name in self.names
            if not name.endswith(INPUT_SCALE)
        }

    def __contains__(self, weight: str) -> bool:
        return weight in self._scales

    def scale(self, weight: str, numbers: Floats) -> Floats:
        """`numbers`: what its blocks stand for, which are changed; of a stack, one expert a row."""
        scales = self._scales[weight]
        numbers *= scales.reshape(-1, *[1] * (numbers.ndim - 1))
        return numbers


def _weight_of(name: str) -> str:
    end = next((end for end in (INPUT_SCALE, SCALE) if name.endswith(end)), name)
    return name.removesuffix(end) + WEIGHT


def _read(file: GGUFFile, name: str, weight: str) -> Floats:
    """[1], or [experts] of a stack of them."""
    info, shape = file.tensors[name], file.tensors[weight].shape
    wanted = {(), (1,)} | ({(shape[0],)} if len(shape) == 3 else set())
    if info.shape not in wanted:
        raise ModelFormatError(
            file.path,
            f"must be one number, or one for each expert of '{weight}', got {list(info.shape)}.",
            field=name,
        )
    scales = dequantize(file.tensor_bytes(name), info.type, (max(info.shape, default=1),))
    if not np.isfinite(scales).all():
        raise ModelFormatError(file.path, "must be finite.", field=name)
    return scales
