"""compressed-tensors, as its own package writes it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.weights.formats.quantized.float_forms import fp8, mxfp4, nvfp4
from tests.weights.formats.quantized.forms import (
    Encoded,
    Form,
    from_integers,
    pack_along_rows,
    to_integers,
)
from tests.weights.formats.quantized.integer_forms import by_activation, in_order


def integers(
    weight: Tensor, bits: int, group_size: int, *, is_symmetric: bool, ordered: bool = False
) -> tuple[Tensor, Tensor, Tensor, Encoded]:
    """Numbers and zero points with 2^(bits - 1) added, scales, the order if any; what it is."""
    width = weight.shape[1]
    group_of = by_activation(width, group_size) if ordered else in_order(width, group_size)
    q, zero, scale = to_integers(weight, bits, group_of)
    if is_symmetric:
        zero = torch.full_like(zero, 1 << bits - 1)
    order = {"weight_g_idx": torch.tensor(group_of, dtype=torch.int32)} if ordered else {}
    return q, zero, scale, (order, from_integers(q, zero, scale, group_of))


def packed(
    weight: Tensor, bits: int, group_size: int, *, is_symmetric: bool = True, ordered: bool = False
) -> Encoded:
    q, zero, scale, (parts, dense) = integers(
        weight, bits, group_size, is_symmetric=is_symmetric, ordered=ordered
    )
    parts |= {
        "weight_packed": pack_along_rows(q, bits),
        "weight_scale": scale,
        "weight_shape": torch.tensor(weight.shape),
    }
    if not is_symmetric:
        parts["weight_zero_point"] = pack_along_rows(zero.t(), bits).t()
    return parts, dense


def int8(weight: Tensor, group_size: int = -1, *, is_symmetric: bool = True) -> Encoded:
    q, zero, scale, (_, dense) = integers(weight, 8, group_size, is_symmetric=is_symmetric)
    parts = {"weight": (q - 128).to(torch.int8), "weight_scale": scale}
    if not is_symmetric:
        parts["weight_zero_point"] = (zero - 128).to(torch.int8)
    return parts, dense


def int8_whole(weight: Tensor) -> Encoded:
    scale = (weight.abs().max() / 127).to(torch.bfloat16)
    q = (weight / scale.float()).round().clamp(-127, 127).to(torch.int8)
    return {"weight": q, "weight_scale": scale.reshape(1)}, q.float() * scale.float()


def fp8_rows(weight: Tensor) -> Encoded:
    numbers, scale, dense = fp8(weight, 1, weight.shape[1])
    return {"weight": numbers, "weight_scale": scale}, dense


def fp8_whole(weight: Tensor) -> Encoded:
    numbers, scale, dense = fp8(weight, *weight.shape)
    return {"weight": numbers, "weight_scale": scale.reshape(1)}, dense


def fp8_blocks(weight: Tensor) -> Encoded:
    numbers, scale, dense = fp8(weight, 32, 48)
    return {"weight": numbers, "weight_scale": scale}, dense


def nvidia(weight: Tensor) -> Encoded:
    codes, scale, second, dense = nvfp4(weight, is_divided=True)
    parts = {"weight_packed": codes, "weight_scale": scale, "weight_global_scale": second}
    return parts, dense


def microscaled(weight: Tensor) -> Encoded:
    codes, exponents, dense = mxfp4(weight)
    return {"weight_packed": codes, "weight_scale": exponents}, dense


def form(
    layout: str,
    encode: Callable[[Tensor], Encoded],
    shown: str,
    num_bits: int,
    strategy: str,
    *,
    extra: dict[str, Tensor] | None = None,
    **weights: Any,
) -> Form:
    group = {
        "targets": ["Linear"],
        "input_activations": None,
        "weights": {"num_bits": num_bits, "type": "int", "symmetric": True, "strategy": strategy}
        | weights,
    }
    settings = {
        "quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed",
        "ignore": ["lm_head"], "kv_cache_scheme": None, "config_groups": {"group_0": group},
    }  # fmt: skip
    return Form(settings, encode, f"compressed-tensors {shown}", extra=extra or {})


OF_32 = {"num_bits": 4, "strategy": "group", "group_size": 32}
OF_8 = {"num_bits": 8, "type": "float"}
INT, FLOAT, PACKED = "int-quantized", "float-quantized", "pack-quantized"
COMPRESSED_FORMS = {
    "packed-4": form(
        PACKED, partial(packed, bits=4, group_size=32), "int4 (groups of 32)", **OF_32
    ),
    "packed-4-zeros": form(
        PACKED,
        partial(packed, bits=4, group_size=32, is_symmetric=False),
        "int4 (groups of 32)",
        symmetric=False,
        **OF_32,
    ),
    "packed-4-ordered": form(
        PACKED,
        partial(packed, bits=4, group_size=32, ordered=True),
        "int4 (groups of 32)",
        actorder="group",
        **OF_32,
    ),
    "packed-3-zeros": form(
        PACKED,
        partial(packed, bits=3, group_size=32, is_symmetric=False),
        "int3 (groups of 32)",
        symmetric=False,
        **{**OF_32, "num_bits": 3},
    ),
    "packed-8": form(
        PACKED, partial(packed, bits=8, group_size=-1), "int8 (by channel)", 8, "channel"
    ),
    "int8": form(INT, int8, "int8 (by channel)", 8, "channel"),
    "int8-zeros": form(
        INT, partial(int8, is_symmetric=False), "int8 (by channel)", 8, "channel", symmetric=False
    ),
    "int8-groups": form(
        "naive-quantized", partial(int8, group_size=32), "int8 (groups of 32)", 8, "group",
        group_size=32,
    ),
    "int8-whole": form(INT, int8_whole, "int8 (one scale)", 8, "tensor"),
    "compressed-fp8": form(
        FLOAT, fp8_rows, "fp8 (by channel)", strategy="channel", **OF_8,
        extra={"input_scale": torch.ones(1), "k_scale": torch.ones(1)},
    ),
    "compressed-fp8-whole": form(FLOAT, fp8_whole, "fp8 (one scale)", strategy="tensor", **OF_8),
    "compressed-fp8-blocks": form(
        FLOAT, fp8_blocks, "fp8 (blocks of 32 x 48)", strategy="block", block_structure=[32, 48],
        **OF_8,
    ),
    "compressed-nvfp4": form(
        "nvfp4-pack-quantized", nvidia, "fp4 (groups of 16)", 4, "tensor_group", type="float",
        group_size=16,
    ),
    "compressed-mxfp4": form(
        "mxfp4-pack-quantized", microscaled, "fp4 (groups of 32)", 4, "group", type="float",
        group_size=32,
    ),
}  # fmt: skip
