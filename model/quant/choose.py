"""How linear layers are kept: as asked, or by device, dtype and what torch was built with."""

from model.placement import Placement
from model.quant.base import LinearMethod
from model.quant.int8 import Int8
from model.quant.native_int8 import NativeInt8
from model.quant.row_invariant import RowInvariant
from model.quant.unquantized import Unquantized


def choose_quantization(name: str, where: Placement) -> str:
    """`auto` is int8 on a CPU that has the instructions for it, else none.

    Raises ValueError for a format that this machine does not have.
    """
    if name != "none" and Int8.is_available(where):
        return "int8"
    if name == "int8":
        raise ValueError(
            "'--quantize' int8 needs a CPU with VNNI instructions and '--dtype' float32, "
            f"got {where.device} and {where.dtype}: use '--quantize none'."
        )
    return "none"


def choose_linear(where: Placement) -> LinearMethod:
    """The same answer in any batch where the hardware gives it for free: that is, on the CPU."""
    if where.quantize == "int8":
        return NativeInt8(where.native) if where.native else Int8()
    return RowInvariant() if RowInvariant.is_available(where) else Unquantized()
