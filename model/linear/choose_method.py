"""How linear layers are kept: as asked, or by device, dtype and what torch was built with."""

from importlib.util import find_spec

import torch

from thirdeye.model.linear.fixed_tile import FixedTile
from thirdeye.model.linear.fp8 import Fp8
from thirdeye.model.linear.int8 import Int8
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.native_float32 import NativeFloat32
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.linear.native_stored import NativeBlocks, NativeStored
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.linear.unquantized import DenseOnGPU, Unquantized
from thirdeye.model.linear.weight_only import (
    WeightOnlyInt4,
    WeightOnlyInt8,
    num_multiprocessors,
)
from thirdeye.model.placement import Placement

BLOCKS = {"q4_0": "Q4_0", "q4_k": "Q4_K", "q8_0": "Q8_0"}  # made of any weights, on a CPU
ON_A_GPU = {"int8": (8, 0), "int4": (8, 0), "fp8": (8, 9)}  # the least compute capability


def choose_quantization(name: str, where: Placement) -> str:
    """`auto` on a CPU: as stored with kernels of ours, int8 with torch's, else none.

    Raises ValueError for a format that this machine does not have.
    """
    if where.device.type == "cuda":
        return "none" if name in ("auto", "none") else _on_a_gpu(name, where)
    if name in ("auto", "stored") and where.native:
        return "stored"
    if name in ("auto", "int8") and (where.native or Int8.is_available(where)):
        return "int8"
    if name in BLOCKS and where.native:
        return name
    if name in ("stored", *BLOCKS):
        raise ValueError(
            f"'--quantize' {name} needs '--dtype' float32, a CPU and compiled kernels ('thirdeye "
            f"doctor' says why there are none), got {where.device} and {where.dtype}: "
            "use '--quantize auto'."
        )
    if name == "int8":
        raise ValueError(
            "'--quantize' int8 needs '--dtype' float32 and a CPU with VNNI instructions, or with "
            "AVX2 and compiled kernels, "
            f"got {where.device} and {where.dtype}: use '--quantize none'."
        )
    if name not in ("auto", "none"):
        raise ValueError(
            f"'--quantize' {name} needs a GPU, got {where.device}: use '--quantize auto'."
        )
    return "none"


def _on_a_gpu(name: str, where: Placement) -> str:
    """Raises ValueError that says what the GPU, or the installation, lacks."""
    if name not in ON_A_GPU:
        raise ValueError(f"'--quantize' {name} needs a CPU, got {where.device}: use 'auto'.")
    least = ON_A_GPU[name]
    has = torch.cuda.get_device_capability(where.device)
    dtypes = [torch.bfloat16] if name == "fp8" else [torch.bfloat16, torch.float16]
    missing = None
    if find_spec("triton") is None:
        missing = "the package triton, which is not installed"
    elif has < least:
        missing = f"compute capability {least[0]}.{least[1]}, this GPU has {has[0]}.{has[1]}"
    elif where.dtype not in dtypes:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        missing = f"'--dtype' {wanted}, got {str(where.dtype).removeprefix('torch.')}"
    if missing:
        raise ValueError(f"'--quantize' {name} needs {missing}: use '--quantize none'.")
    return name


def choose_linear(where: Placement) -> LinearMethod:
    """The same answer in any batch where the hardware gives it for free: that is, on the CPU."""
    if where.quantize == "stored" and where.native:
        return NativeStored(where.native)
    if where.quantize in BLOCKS and where.native:
        return NativeBlocks(where.native, BLOCKS[where.quantize])
    if where.quantize == "int8":
        if where.is_fused:
            return WeightOnlyInt8(where)
        return NativeInt8(where.native) if where.native else Int8()
    if where.quantize == "int4":
        return WeightOnlyInt4(where)
    if where.quantize == "fp8":
        return Fp8(where)
    if where.is_fused:
        method = FixedTile if where.is_deterministic else DenseOnGPU
        return method(num_multiprocessors(where.device))
    if where.native:  # which is for fp32 on a CPU alone
        return NativeFloat32(where.native)
    return RowInvariant(where.dtype) if RowInvariant.is_available(where) else Unquantized()


def choose_head(where: Placement) -> LinearMethod:
    """The last layer decides between tokens: it is kept in no fewer than 8 bits, and where it may
    decide, it rounds its input less."""
    if where.quantize in BLOCKS and where.native:
        return NativeBlocks(where.native, "Q8_0", is_head=True)
    if where.quantize == "stored" and where.native:
        return NativeStored(where.native, is_head=True)
    return WeightOnlyInt8(where) if where.quantize == "int4" else choose_linear(where)
