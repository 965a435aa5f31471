"""Loops over a kernel's arguments in the interpreter of triton 3.6, with numpy 2.4 and newer.

Every scalar of a kernel is an array of one element there, which numpy no longer makes an `int`;
triton 3.7 squeezes it first, and so does this.
"""

from typing import Any

from triton.runtime import interpreter

_patch_lang_tensor = interpreter._patch_lang_tensor


def _index(self: Any) -> int:
    return int(self.handle.data.squeeze())


def _patch(tensor: Any, scope: Any) -> None:
    _patch_lang_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", _index)


def install() -> None:
    """For the rest of the process."""
    interpreter._patch_lang_tensor = _patch
