"""How linear layers are kept when nobody says: by device, dtype and what torch was built with."""

from model.placement import Placement
from model.quant.base import LinearMethod
from model.quant.row_invariant import RowInvariant
from model.quant.unquantized import Unquantized


def choose_linear(where: Placement) -> LinearMethod:
    """The same answer in any batch where the hardware gives it for free: that is, on the CPU."""
    return RowInvariant() if RowInvariant.is_available(where) else Unquantized()
