"""The compiled kernels of this machine, from the server's side: where they are, and that they come.

Nobody waits for a compiler: what `thirdeye pull` has not compiled is begun when the server starts,
in the background, and serves from the next start on if it is not ready for this one. Without torch,
as the API process is; `model/native/` has the kernels.
"""

import logging
import threading

from thirdeye.model.native.build import COMPILERS, Build, Unavailable, plan_build
from thirdeye.server.settings.engine_settings import KernelSettings
from thirdeye.server.settings.environment import chosen_compiler
from thirdeye.weights.paths import kernels_directory

logger = logging.getLogger(__name__)


def native_library(kernels: KernelSettings, device: str) -> str:
    """The library's file, which may still be on its way; empty where there will be none, as
    `--native` or `--device` have it.

    Why there is none is said in the log.
    """
    if kernels.native == "off" or device.startswith("cuda"):
        return ""
    try:
        build = plan_native(kernels.isa)
    except Unavailable as reason:
        logger.info("no native kernels: %s", reason)
        return ""
    if not build.is_done:
        threading.Thread(target=_compile, args=(build,), name="compiler", daemon=True).start()
    return str(build.library)


def plan_native(isa: str = "auto") -> Build:
    """Raises `Unavailable` with the reason why this machine has none."""
    chosen = chosen_compiler()
    return plan_build(kernels_directory(), (chosen,) if chosen else COMPILERS, isa=isa)


def native_status() -> str:
    """A line for people, compiled if need be: for which instructions the library is and where, or
    why there is none."""
    try:
        build = _compiled()
        return f"{build.level.name}: {build.library}"
    except Unavailable as reason:
        return f"none: {reason}"


def compiled_library() -> str:
    """The library's file, for who would rather wait than do without; empty where there is none."""
    try:
        return str(_compiled().library)
    except Unavailable:
        return ""


def _compiled() -> Build:
    build = plan_native()
    build.run()
    return build


def _compile(build: Build) -> None:
    try:
        build.run()
    except Unavailable as reason:
        logger.warning("no native kernels: %s", reason)
