"""`tl.dot` in triton's interpreter with each element's sum in one order, on every processor.

The interpreter multiplies with numpy, whose library cuts a product by the processor it finds and by
the number of rows, so that a row's bits depend on the rows beside it. A GPU's tile has one order of
summing, and that order is what the tests of row invariance are about: here it is 0, 1, 2, ...
"""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

Array = np.ndarray[Any, Any]


def fixed_order_matmul(a: Array, b: Array, dtype: Any) -> Array:
    """a [..., M, K], b [..., K, N] -> [..., M, N] in `dtype`: K products, added one by one."""
    a, b = a.astype(dtype), b.astype(dtype)
    total = np.zeros((*a.shape[:-1], b.shape[-1]), dtype)
    for k in range(a.shape[-1]):
        total += a[..., :, k, None] * b[..., None, k, :]
    return total


def _as_floats(handle: Any) -> Array:
    """8-bit floats lie in the interpreter as bytes; half precision holds each of them."""
    data: Array = handle.data
    if handle.dtype.primitive_bitwidth == 8 and handle.dtype.is_floating():
        data = interpreter._convert_float(data, handle.dtype, tl.float16, None).view(np.float16)
    return data


def _create_dot(_self: Any, a: Any, b: Any, d: Any, *_precision: Any) -> Any:
    product = fixed_order_matmul(_as_floats(a), _as_floats(b), d.data.dtype)
    return interpreter.TensorHandle(product + d.data, d.dtype.scalar)


def install() -> None:
    """For the rest of the process."""
    interpreter.InterpreterBuilder.create_dot = _create_dot
