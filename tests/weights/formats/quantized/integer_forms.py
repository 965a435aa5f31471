"""GPTQ and AWQ, written as their authors describe them."""

from functools import partial

import torch
from torch import Tensor

from tests.weights.formats.quantized.forms import (
    Encoded,
    Form,
    from_integers,
    pack_along_rows,
    to_integers,
    words_of,
)

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # which of eight numbers is at nibble 0, 1, ... of a word


def in_order(width: int, group_size: int) -> list[int]:
    return [j // (width if group_size == -1 else group_size) for j in range(width)]


def by_activation(width: int, group_size: int) -> list[int]:
    """As `desc_act` mixes them: some order of the inputs, cut into groups."""
    order = torch.randperm(width, generator=torch.Generator().manual_seed(width)).tolist()
    groups = [0] * width
    for place, column in enumerate(order):
        groups[column] = place // group_size
    return groups


def gptq(
    weight: Tensor, bits: int, group_size: int, version: int = 1, *, ordered: bool = False
) -> Encoded:
    width = weight.shape[1]
    group_of = by_activation(width, group_size) if ordered else in_order(width, group_size)
    q, zero, scale = to_integers(weight, bits, group_of)
    parts = {
        "qweight": pack_along_rows(q, bits).t(),
        "qzeros": pack_along_rows(zero.t() - int(version == 1), bits),
        "scales": scale.t(),
        "g_idx": torch.tensor(group_of, dtype=torch.int32),
    }
    return parts, from_integers(q, zero, scale, group_of)


def awq(weight: Tensor, group_size: int) -> Encoded:
    group_of = in_order(weight.shape[1], group_size)
    q, zero, scale = to_integers(weight, 4, group_of)
    parts = {"qweight": awq_words(q.t()), "qzeros": awq_words(zero.t()), "scales": scale.t()}
    return parts, from_integers(q, zero, scale, group_of)


def awq_words(numbers: Tensor) -> Tensor:
    """[n, k] -> [n, k / 8]"""
    rows = [
        [
            words_of([row[start + j] for j in AWQ_ORDER], 4)[0]
            for start in range(0, len(row), len(AWQ_ORDER))
        ]
        for row in numbers.tolist()
    ]
    return torch.tensor(rows, dtype=torch.int32)


def gptq_form(
    bits: int, group_size: int, version: int = 1, *, ordered: bool = False, named: bool = True
) -> Form:
    settings = {
        "quant_method": "gptq", "bits": bits, "group_size": group_size, "desc_act": ordered,
        "sym": False, "damp_percent": 0.01, "lm_head": False,
    }  # fmt: skip
    if named:
        settings["checkpoint_format"] = "gptq" if version == 1 else "gptq_v2"
    groups = "one group" if group_size == -1 else f"groups of {group_size}"
    return Form(
        settings,
        partial(gptq, bits=bits, group_size=group_size, version=version, ordered=ordered),
        f"GPTQ {bits} bit ({groups})",
    )


def awq_form(group_size: int) -> Form:
    groups = "one group" if group_size == -1 else f"groups of {group_size}"
    settings = {
        "quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True,
        "version": "gemm", "modules_to_not_convert": None,
    }  # fmt: skip
    return Form(settings, partial(awq, group_size=group_size), f"AWQ 4 bit ({groups})")


def auto_round(weight: Tensor, version: int) -> Encoded:
    """4 bits, but 8 in the module of 96 inputs, the MLP's last. No g_idx."""
    parts, dense = gptq(weight, 8 if weight.shape[1] == 96 else 4, 32, version)
    return {name: part for name, part in parts.items() if name != "g_idx"}, dense


def auto_round_form(layout: str, version: int, wide: str) -> Form:
    """`wide`: the name, or an expression, of the module with 8 bits."""
    settings = {
        "quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": False, "iters": 200,
        "data_type": "int", "autoround_version": "0.9.2", "packing_format": layout,
        "block_name_to_quantize": "model.layers", "extra_config": {
            wide: {"bits": 8}, "lm_head": {"bits": 16, "data_type": "float"},
        },
    }  # fmt: skip
    shown = [f"auto-round {bits} bit (groups of 32)" for bits in (4, 8)]
    return Form(settings, partial(auto_round, version=version), shown[0], (shown[1],))


def auto_round_awq_form() -> Form:
    settings = {
        "quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True,
        "packing_format": "auto_round:auto_awq",
    }  # fmt: skip
    return Form(settings, partial(awq, group_size=32), "auto-round 4 bit (groups of 32)")


INTEGER_FORMS = {
    "gptq-4": gptq_form(4, 32),
    "gptq-4-unnamed": gptq_form(4, 32, named=False),
    "gptq-4-v2": gptq_form(4, 32, version=2),
    "gptq-4-ordered": gptq_form(4, 32, ordered=True),
    "gptq-4-one-group": gptq_form(4, -1),
    "gptq-2": gptq_form(2, 32),
    "gptq-3": gptq_form(3, 32),
    "gptq-3-ordered-v2": gptq_form(3, 32, version=2, ordered=True),
    "gptq-8": gptq_form(8, 32),
    "awq": awq_form(32),
    "awq-one-group": awq_form(-1),
    "auto-round": auto_round_form("auto_round:auto_gptq", 1, "model.layers.0.mlp.down_proj"),
    "auto-round-v2": auto_round_form("auto_round:gptqmodel", 2, r".*down_pro(j|g)$"),
    "auto-round-awq": auto_round_awq_form(),
}
