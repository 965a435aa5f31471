"""Products of torch that not every processor can do; ours (`model/native`) run on all of them, and
where torch lacks its own the product does not choose it (`is_available`)."""

import pytest
import torch

from thirdeye.model.linear.int8 import Int8
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.placement import Placement

CPU = torch.device("cpu")
HAS_INT8 = Int8.is_available(Placement(torch.float32, CPU))
HAS_PACKED_BF16 = RowInvariant.is_available(Placement(torch.bfloat16, CPU))

NO_INT8 = "this processor has no VNNI: torch's products of 8 bits are not exact"
NO_PACKED_BF16 = "torch packs no bfloat16 weights for this processor"

needs_int8 = pytest.mark.skipif(not HAS_INT8, reason=NO_INT8)
