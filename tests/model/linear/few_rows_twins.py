"""Products of few rows with what lies around them, against the plain parts, on any device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.model.fused_twins import close, noise
from thirdeye.model.config import Activation
from thirdeye.model.few_rows.around import Around
from thirdeye.model.kernels.products.few_rows_matmul import FewRowsMatmul
from thirdeye.model.linear.rounded import (
    RoundedWeight,
    round_to_fp8,
    round_to_int4,
    round_to_int8,
)
from thirdeye.model.parts.activations import gated_function
from thirdeye.model.parts.layers import RMSNorm
from thirdeye.model.placement import Placement

ROUND = {"int8": round_to_int8, "int4": round_to_int4, "fp8": round_to_fp8}
FORMATS = ("dense", *ROUND)


@dataclass(frozen=True, slots=True)
class Case:
    format: str
    num_rows: int
    in_features: int
    out_features: int  # of the result
    has_bias: bool = False
    has_norm: bool = False
    has_delta: bool = False
    has_residual: bool = False
    activation: Activation | None = None

    def __str__(self) -> str:
        flags = ("bias", "norm", "delta", "residual")
        named = [flag for flag in flags if getattr(self, f"has_{flag}")]
        gate = [] if self.activation is None else [self.activation.value]
        sizes = f"{self.num_rows} x {self.in_features} x {self.out_features}"
        return ", ".join((self.format, sizes, *named, *gate))


@dataclass(frozen=True, slots=True)
class Operands:
    x: Tensor
    weight: Tensor | RoundedWeight
    bias: Tensor | None
    around: Around


def operands(case: Case, where: Placement) -> Operands:
    """Of a product's usual sizes."""
    rows, size, out = case.num_rows, case.in_features, case.out_features
    width = out * (1 if case.activation is None else 2)
    dense = noise(width, size, where=where) / size**0.5
    norm = RMSNorm(size, 1e-5, where)
    norm.weight.copy_(noise(size, where=where) * 0.3 + 1)
    return Operands(
        noise(rows, size, where=where) * 3,
        ROUND[case.format](dense) if case.format in ROUND else dense,
        noise(width, where=where) if case.has_bias else None,
        Around(
            norm if case.has_norm else None,
            noise(rows, size, where=where) if case.has_delta else None,
            case.activation,
            noise(rows, out, where=where) if case.has_residual else None,
        ),
    )


def plainly(given: Operands, where: Placement) -> tuple[Tensor, Tensor]:
    """By the plain parts: what comes out, and the stream."""
    around, stream = given.around, given.x
    if around.delta is not None:
        stream = stream + around.delta
    normed = stream
    if isinstance(around.norm, RMSNorm):
        normed = around.norm(stream)
    weight = given.weight
    dense = weight.dequantize() if isinstance(weight, RoundedWeight) else weight.float()
    wide = normed.float() @ dense.T
    if given.bias is not None:
        wide += given.bias.float()
    y = wide.to(given.x.dtype)
    if around.activation is not None:
        gate, up = y.chunk(2, dim=-1)
        y = gated_function(around.activation, where)(gate, up)
    return y if around.residual is None else y + around.residual, stream


def check_few_rows(case: Case, where: Placement, num_multiprocessors: int = 1) -> None:
    given = operands(case, where)
    before = given.x.clone()
    multiply = FewRowsMatmul(num_multiprocessors)
    ours, stream = multiply(given.x, given.weight, given.bias, given.around)
    twin, twin_stream = plainly(given, where)
    assert ours.dtype == where.dtype
    close(ours, twin)
    close(stream, twin_stream)
    assert torch.equal(given.x, before)


GATES = sorted(set(Activation) - {Activation.XIELU})
CASES = (
    Case("dense", 1, 1, 1),
    Case("dense", 1, 1, 1, has_norm=True),
    Case("dense", 3, 70, 37, has_bias=True),
    Case("dense", 8, 300, 16, has_norm=True),
    Case("dense", 5, 130, 20, has_norm=True, has_delta=True, has_bias=True),
    Case("dense", 2, 130, 33, has_delta=True),
    Case("dense", 4, 96, 40, has_bias=True, has_residual=True),
    Case("dense", 2, 64, 17, has_norm=True, has_bias=True, activation=Activation.SILU),
    *(Case("dense", 2, 40, 9, has_norm=True, has_delta=True, activation=kind) for kind in GATES),
)
