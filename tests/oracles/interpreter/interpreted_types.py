"""triton's interpreter without what it works out again at each operation: a third of its time.

* A sum or product of integers is computed twice, the second time in 64 bits, for a check of
  overflow that it then leaves out (`debug` is off, and nothing can switch it on).
* The table of numpy's types is made anew for each look into it.
* A tensor's shape is wrapped, counted and printed anew for each tensor.
"""

from dataclasses import replace
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

_get_np_dtype = interpreter._get_np_dtype
_init_block_type = tl.core.block_type.__init__
_init_tensor = tl.tensor.__init__

# By a type's name: types of pointers and blocks have no hash.
_DTYPES: dict[str, Any] = {}
_BLOCKS: dict[tuple[str, tuple[int, ...]], dict[str, Any]] = {}
_SHAPES: dict[str, tuple[Any, Any]] = {}  # no block: ""


def _dtype_of(type: Any) -> Any:
    if type.name not in _DTYPES:
        _DTYPES[type.name] = _get_np_dtype(type)
    return _DTYPES[type.name]


def _block_type(self: Any, element_ty: Any, shape: Any) -> None:
    key = element_ty.name, tuple(shape)
    if key not in _BLOCKS:
        _init_block_type(self, element_ty, shape)
        _BLOCKS[key] = {name: vars(self)[name] for name in ("shape", "numel", "name")}
    else:
        self.__dict__.update(_BLOCKS[key], element_ty=element_ty)


def _tensor(self: Any, handle: Any, type: Any) -> None:
    name = type.name if type.is_block() else ""
    if name not in _SHAPES:
        _init_tensor(self, handle, type)
        _SHAPES[name] = self.numel, self.shape
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.numel, self.shape = _SHAPES[name]


def install() -> None:
    """For the rest of the process."""
    options = interpreter.interpreter_builder.options
    assert not options.debug  # else the check of overflow is one
    interpreter.interpreter_builder.options = replace(options, sanitize_overflow=False)
    interpreter._get_np_dtype = _dtype_of
    tl.core.block_type.__init__ = _block_type
    tl.tensor.__init__ = _tensor
