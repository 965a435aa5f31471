"""triton's interpreter without its search for builtins at each call of a kernel's function.

It looks through every member of the language, again for each function that a kernel calls: a
quarter of what our kernels take in it. Which members are builtins does not change, so their names
are looked up once; and a function that is called by another finds them patched, for the whole
kernel.
"""

import inspect
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

_NAMES = {
    package: [name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]
    for package in (tl, tl.core, tl.math, tl.tensor, tl.core.tensor_descriptor_base)
}


def _patch(package: Any, builder: Any, scope: Any) -> None:
    for name in _NAMES[package]:
        member = getattr(package, name)
        if tl.core.is_builtin(member):  # else it is patched already, for the function that calls
            interpreter._patch_attr(package, name, member, builder, scope)


_patch_lang = interpreter._patch_lang


def _patch_once(function: Any) -> Any:
    """What there is to restore: nothing, where the kernel that calls has patched it all."""
    packages = [p for p in (tl, tl.core) if any(p is v for v in function.__globals__.values())]
    if packages and not any(tl.core.is_builtin(package.load) for package in packages):
        return interpreter._LangPatchScope()
    return _patch_lang(function)


def install() -> None:
    """For the rest of the process."""
    interpreter._patch_builtin = _patch
    interpreter._patch_lang = _patch_once
