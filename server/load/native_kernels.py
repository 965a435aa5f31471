"""The compiled kernels of this machine, from the server's side: where they are, and that they come.

Those of the wheel serve, unless they may not or `$CC` names a compiler; else they are compiled.
Nobody waits for that: what `thirdeye pull` has not compiled is begun when the server starts,
in the background, and serves from the next start on if it is not ready for this one. Without torch,
as the API process is; `model/native/` has the kernels.
"""

import logging
import threading

from thirdeye.model.native.build import (
    COMPILERS,
    PREFIX,
    Build,
    Unavailable,
    choose_levels,
    plan_build,
)
from thirdeye.model.native.prebuilt.manifest import (
    Prebuilt,
    find_prebuilt,
    read_manifest,
    why_refused,
)
from thirdeye.model.work_folder import sweep
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
    if isinstance(build, Build):
        sweep(build.library.parent, PREFIX)
    if not build.is_done:
        compiler = threading.Thread(target=_compile, args=(build,), name="compiler", daemon=True)
        try:
            compiler.start()
        except RuntimeError as error:  # the system gives no more threads
            logger.warning("no native kernels: they cannot be compiled now: %s", error)
            return ""
    return str(build.library)


def plan_native(isa: str = "auto") -> Build | Prebuilt:
    """Raises `Unavailable` with the reasons why this machine has none."""
    if chosen := chosen_compiler():
        return plan_build(kernels_directory(), (chosen,), isa=isa)
    try:
        return find_prebuilt(choose_levels(isa))
    except Unavailable as missing:
        try:
            return plan_build(kernels_directory(), COMPILERS, isa=isa)
        except Unavailable as reason:
            if str(reason) == str(missing):  # the processor's
                raise
            raise Unavailable(f"{reason}, and {missing}") from reason


def native_status() -> str:
    """A line for people, compiled if need be: for which instructions the library is, where it came
    from and lies, or why there is none."""
    try:
        build = _compiled()
    except Unavailable as reason:
        return f"none: {reason}"
    return (
        f"{build.level.name}, {origin(is_of_a_wheel=isinstance(build, Prebuilt))}: {build.library}"
    )


def origin(*, is_of_a_wheel: bool) -> str:
    return "from the wheel" if is_of_a_wheel else "compiled here"


def wheel_status() -> str:
    """A line for people: the levels that came with the wheel, and what is wrong with any."""
    try:
        entries = read_manifest()
    except Unavailable as reason:
        return f"none: {reason}"
    said = {made.level: why_refused(made) for made in entries}
    return ", ".join(f"{name} REFUSED: {why}" if why else name for name, why in said.items())


def compiled_library() -> str:
    """The library's file, for who would rather wait than do without; empty where there is none."""
    try:
        return str(_compiled().library)
    except Unavailable:
        return ""


def _compiled() -> Build | Prebuilt:
    build = plan_native()
    build.run()
    return build


def _compile(build: Build | Prebuilt) -> None:
    try:
        build.run(in_background=True)
    except Unavailable as reason:
        logger.warning("no native kernels: %s", reason)
