"""Methods that keep floats of eight or four bits: fp8, modelopt, bitsandbytes."""

import json
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tests.weights.formats.quantized.forms import Encoded, Form

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
NF4 = sorted(torch.distributions.Normal(0, 1).icdf(torch.linspace(0.03, 0.97, 16)).tolist())


def e4m3(byte: int) -> float:
    """A sign, four bits of exponent less 7, three of fraction."""
    sign, exponent, fraction = -1 if byte >> 7 else 1, byte >> 3 & 15, byte & 7
    if exponent == 0:
        return sign * fraction / 8 * 2.0**-6
    return sign * (1 + fraction / 8) * 2.0 ** (exponent - 7)


def products(numbers: list[list[float]], scales: list[list[float]]) -> Tensor:
    """Each rounded once, to 32 bits."""
    return torch.from_numpy(np.array(numbers, np.float32) * np.array(scales, np.float32))


def spread(scale: Tensor, height: int, width: int, rows: int, columns: int) -> list[list[float]]:
    scales = scale.tolist()
    return [[scales[i // rows][j // columns] for j in range(width)] for i in range(height)]


def fp8(weight: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers, a scale for so many rows and columns of them, and what they are."""
    height, width = weight.shape
    counts = -(-height // rows), -(-width // columns)
    scale = torch.zeros(counts)
    for i in range(counts[0]):
        for j in range(counts[1]):
            block = weight[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            scale[i, j] = block.abs().max() / 448
    wide = spread(scale, height, width, rows, columns)
    numbers = (weight / torch.tensor(wide)).to(torch.float8_e4m3fn)
    values = [[e4m3(byte) for byte in row] for row in numbers.view(torch.uint8).tolist()]
    return numbers, scale, products(values, wide)


def fp8_blocks(weight: Tensor, size: int) -> Encoded:
    numbers, scale, dense = fp8(weight, size, size)
    return {"weight": numbers, "weight_scale_inv": scale}, dense


def fp8_power_blocks(weight: Tensor, size: int) -> Encoded:
    """With scales that are powers of two, in a byte each."""
    numbers, scale, _ = fp8(weight, size, size)
    scale = scale.to(torch.float8_e8m0fnu)
    values = [[e4m3(byte) for byte in row] for row in numbers.view(torch.uint8).tolist()]
    powers = torch.tensor(
        [[2.0 ** (e - 127) for e in row] for row in scale.view(torch.uint8).tolist()]
    )
    dense = products(values, spread(powers, *weight.shape, size, size))
    return {"weight": numbers, "weight_scale_inv": scale}, dense


def fp8_rows(weight: Tensor) -> Encoded:
    numbers, scale, dense = fp8(weight, 1, weight.shape[1])
    return {"weight": numbers, "weight_scale": scale}, dense


def fp8_whole(weight: Tensor) -> Encoded:
    numbers, scale, dense = fp8(weight, *weight.shape)
    return {"weight": numbers, "weight_scale": scale.reshape(())}, dense


def four_bits(weight: Tensor, values: list[float], scale: list[list[float]]) -> list[list[int]]:
    """Codes of the nearest values."""
    scaled = weight / torch.tensor(scale)
    return (scaled[..., None] - torch.tensor(values)).abs().argmin(-1).tolist()


def in_bytes(codes: list[list[int]], *, is_low_first: bool) -> Tensor:
    """[n, k] -> [n, k / 2]"""
    low, high = (0, 1) if is_low_first else (1, 0)
    rows = [[row[j + low] | row[j + high] << 4 for j in range(0, len(row), 2)] for row in codes]
    return torch.tensor(rows, dtype=torch.uint8)


def nvfp4(weight: Tensor, *, is_divided: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, scales of 16, the one scale by which these are multiplied (or divided), what it is."""
    height, width = weight.shape
    second = torch.tensor([0.0123 if not is_divided else 1 / 0.0123])
    factor = 1 / second if is_divided else second
    scale = weight.reshape(height, -1, 16).abs().amax(-1) / 6 / factor
    scale = scale.to(torch.float8_e4m3fn)
    first = torch.tensor([[e4m3(byte) for byte in row] for row in scale.view(torch.uint8).tolist()])
    both = first / second if is_divided else first * second
    wide = spread(both, height, width, 1, 16)
    codes = four_bits(weight, E2M1, wide)
    dense = products([[E2M1[code] for code in row] for row in codes], wide)
    return in_bytes(codes, is_low_first=True), scale, second, dense


def modelopt_nvfp4(weight: Tensor) -> Encoded:
    packed, scale, second, dense = nvfp4(weight, is_divided=False)
    parts = {"weight": packed, "weight_scale": scale, "weight_scale_2": second.reshape(())}
    return parts, dense


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, exponents for 32 of them, what it is."""
    height, width = weight.shape
    largest = weight.reshape(height, -1, 32).abs().amax(-1)
    exponents = (largest / 6).log2().ceil().int() + 127
    powers = torch.tensor([[2.0 ** (e - 127) for e in row] for row in exponents.tolist()])
    wide = spread(powers, height, width, 1, 32)
    codes = four_bits(weight, E2M1, wide)
    dense = products([[E2M1[code] for code in row] for row in codes], wide)
    return in_bytes(codes, is_low_first=True), exponents.to(torch.uint8), dense


def bitsandbytes_4(
    weight: Tensor, kind: str = "nf4", block: int = 64, *, is_double: bool = False
) -> Encoded:
    values = [value / max(NF4) for value in NF4] if kind == "nf4" else [v / 6 for v in E2M1]
    height, width = weight.shape
    flat = weight.reshape(-1)
    blocks = [flat[i : i + block] for i in range(0, len(flat), block)]
    absmax = torch.tensor([float(part.abs().max()) for part in blocks])
    state = {"quant_type": kind, "blocksize": block, "shape": [height, width], "dtype": "float32"}
    parts: dict[str, Tensor] = {}
    if is_double:
        state |= {"nested_blocksize": 16, "nested_offset": 0.25, "nested_dtype": "float32"}
        table = torch.linspace(-1, 1, 256)
        nested = torch.tensor(
            [float((absmax[i : i + 16] - 0.25).abs().max()) for i in range(0, len(absmax), 16)]
        )
        wide = torch.tensor([float(nested[i // 16]) for i in range(len(absmax))])
        codes = ((absmax - 0.25) / wide).sub(table[:, None]).abs().argmin(0)
        parts = {"weight.nested_absmax": nested, "weight.nested_quant_map": table}
        parts["weight.absmax"] = codes.to(torch.uint8)
        absmax = torch.tensor(
            [float(table[c] * w + np.float32(0.25)) for c, w in zip(codes, wide, strict=True)]
        )
    else:
        parts["weight.absmax"] = absmax
    largest = absmax.tolist()
    wide_rows = [[largest[(i * width + j) // block] for j in range(width)] for i in range(height)]
    chosen = four_bits(weight, values, wide_rows)
    packed = in_bytes([[code for row in chosen for code in row]], is_low_first=False)
    text = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    parts |= {
        "weight": packed.reshape(-1, 1),
        "weight.quant_map": torch.tensor(values),
        f"weight.quant_state.bitsandbytes__{kind}": text,
    }
    table_32 = [float(np.float32(value)) for value in values]
    return parts, products([[table_32[code] for code in row] for row in chosen], wide_rows)


def bitsandbytes_8(weight: Tensor) -> Encoded:
    largest = weight.abs().amax(1)
    numbers = (weight / largest[:, None] * 127).round().to(torch.int8)
    scales = [[float(np.float32(row) / np.float32(127))] for row in largest.tolist()]
    parts = {"weight": numbers, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, products(numbers.tolist(), scales)


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
STATIC = {"input_scale": torch.tensor(0.5), "k_scale": torch.tensor(2.0)}
MODELOPT = {"quant_method": "modelopt", "exclude_modules": ["lm_head", "*.visual*"]}
FOUR = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "llm_int8_skip_modules": ["lm_head"],
}  # fmt: skip
FLOAT_FORMS = {
    "fp8-blocks": Form(
        {**FP8, "weight_block_size": [32, 32], "modules_to_not_convert": ["lm_head"]},
        partial(fp8_blocks, size=32),
        "FP8 (blocks of 32 x 32)",
    ),
    "fp8-blocks-cut": Form(
        {**FP8, "weight_block_size": [40, 40]},
        partial(fp8_blocks, size=40),
        "FP8 (blocks of 40 x 40)",
    ),
    "fp8-blocks-powers": Form(
        {**FP8, "weight_block_size": [32, 32], "scale_fmt": "ue8m0"},
        partial(fp8_power_blocks, size=32),
        "FP8 (blocks of 32 x 32)",
    ),
    "fp8-one-scale": Form(
        {**FP8, "activation_scheme": "static", "ignored_layers": ["lm_head"]},
        fp8_whole,
        "FP8 (one scale)",
        extra=STATIC,
    ),
    "fp8-rows": Form({"quant_method": "fbgemm_fp8"}, fp8_rows, "FP8 (by channel)"),
    "modelopt-fp8": Form(
        {**MODELOPT, "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
        fp8_whole,
        "modelopt FP8 (one scale)",
        extra=STATIC,
    ),
    "modelopt-nvfp4": Form(
        {**MODELOPT, "quant_algo": "NVFP4", "group_size": 16},
        modelopt_nvfp4,
        "modelopt NVFP4",
        extra=STATIC,
    ),
    "nf4": Form(FOUR, bitsandbytes_4, "bitsandbytes nf4 (blocks of 64)"),
    "nf4-double": Form(
        FOUR, partial(bitsandbytes_4, is_double=True), "bitsandbytes nf4 (blocks of 64)"
    ),
    "nf4-odd-blocks": Form(
        FOUR, partial(bitsandbytes_4, block=80), "bitsandbytes nf4 (blocks of 80)"
    ),
    "fp4-unnamed": Form(
        {"load_in_4bit": True},
        partial(bitsandbytes_4, kind="fp4"),
        "bitsandbytes fp4 (blocks of 64)",
    ),
    "bitsandbytes-int8": Form(
        {"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes_8, "bitsandbytes int8"
    ),
}  # fmt: skip
