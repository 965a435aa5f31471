"""By which keys triton finds kernels in its cache, and what is part of them.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.in_advance.keys

One line of JSON. A key holds the constants of modules that a kernel reads. Those that it reads in a
function of another kernel's, too, are held by triton 3.6 and 3.7 only if that function has a key of
its own by then: kernels that were used earlier in the process.
"""

import json
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from triton.language import constexpr
from triton.runtime.jit import JITFunction

from thirdeye.model import kernels


def main() -> None:
    functions = jitted()
    launched = sorted(name for name in functions if name.endswith("_kernel"))
    alone: dict[str, str] = {}
    constants: dict[str, list[str]] = {}
    for name in launched:
        alone |= keys(functions, [name])
        used = functions[name].used_global_vals.items()
        constants[name] = [of for (of, _), (value, _) in used if isinstance(value, constexpr)]
    behind = keys(functions, launched), keys(functions, launched[::-1])
    report = {
        name: {
            "is_its_own": all(keys[name] == alone[name] for keys in behind),
            "constants": constants[name],
            "is_dependent": "DEPENDENT" in functions[name].arg_names,
        }
        for name in launched
    }
    print(json.dumps(report))


def jitted() -> dict[str, Any]:
    """Every function that triton compiles here, by its name; that of a kernel ends so."""
    found = {}
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        for function in vars(import_module(module.name)).values():
            if isinstance(function, JITFunction):
                found[f"{function.__module__}.{function.__name__}"] = function
    return found


def keys(functions: dict[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Of a process that uses these kernels in this order."""
    for function in functions.values():
        function.hash, function.used_global_vals = None, {}
    return {name: functions[name].cache_key for name in names}


if __name__ == "__main__":
    main()
