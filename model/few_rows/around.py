"""What lies around a product of few rows, and who can have it in the product's own launch.

A step of few rows reads each weight once and takes as long as that, if nothing is in the way: small
kernels between two products are. See `model/kernels/products/few_rows_kernel.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from thirdeye.model.config import Activation
from thirdeye.model.linear.method import LinearLayer

FEW_ROWS = 8  # the tensor cores' smallest number of them


class RowNorm(Protocol):
    """An RMSNorm."""

    eps: float

    @property
    def weight(self) -> Tensor:
        """[in]"""


@dataclass(frozen=True, slots=True)
class Around:
    """y = gate(norm(x + delta) W^T + b) + residual, of which any may be missing."""

    norm: RowNorm | None = None
    delta: Tensor | None = None  # [T, in]
    activation: Activation | None = None  # of a gate, whose outputs are the first half
    residual: Tensor | None = None  # [T, outputs, half as many behind a gate]


ALONE = Around()


class FewRowsMethod(ABC):
    """A `LinearMethod` that multiplies up to FEW_ROWS rows with what lies around the product."""

    @abstractmethod
    def multiply_few(
        self, layer: LinearLayer, x: Tensor, around: Around = ALONE
    ) -> tuple[Tensor, Tensor]:
        """x [T, in] -> y [T, out], and x with `around.delta`."""
