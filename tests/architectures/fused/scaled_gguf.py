"""A GGUF file as llama.cpp's converter writes NVFP4: beside a weight a number, or one an expert, by
which it is to be multiplied."""

from pathlib import Path

import gguf
import numpy as np

from tests.architectures.fused.fused_gguf import write

Q8_0 = gguf.GGMLQuantizationType.Q8_0


def scaled(path: Path, to: Path, plain: Path) -> int:
    """Write `to` with scales, and `plain`, whose weights are what these stand for; how many tensors
    got one."""
    reader = gguf.GGUFReader(path)
    dice = np.random.default_rng(1)
    tensors = {one.name: one.data for one in reader.tensors}
    numbers, types, made = dict(tensors), {}, 0
    for name, tensor in list(tensors.items()):
        if not name.startswith("blk.") or tensor.ndim < 2 or "norm" in name:
            continue
        scale = dice.uniform(0.2, 3.0, tensor.shape[0] if tensor.ndim == 3 else 1)
        scale = scale.astype(np.float32)
        if tensor.shape[-1] % 32 == 0:
            types[name] = Q8_0
            tensor = gguf.quants.quantize(tensor / 2, Q8_0)
            tensors[name] = tensor
            tensor = gguf.quants.dequantize(tensor, Q8_0)
        numbers[name] = tensor * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        tensors[name.replace(".weight", ".scale")] = scale
        tensors[name.replace(".weight", ".input_scale")] = scale * 0
        made += 1
    write(reader, tensors, to, types)
    write(reader, numbers, plain)
    return made
