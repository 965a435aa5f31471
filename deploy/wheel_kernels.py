"""Compiles the kernels into the wheel: a library for each level of each processor that a compiler
is here for, and their manifest. hatchling calls it; `model/native/prebuilt/manifest.py` reads what
it made.

The wheel stays `py3-none-any`: it runs everywhere, and takes a library where one fits. What this
machine has compiled before is taken from its cache, whose names stand for sources, flags and
compiler.
"""

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from thirdeye.model.native.build import Build
    from thirdeye.model.native.prebuilt.manifest import Made

INSIDE = "thirdeye/model/native/prebuilt"
SYMBOL = re.compile(rb"GLIBC_(\d+(?:\.\d+)+)\0")


class WheelKernels(BuildHookInterface):  # type: ignore[type-arg]  # hatchling is not typed so far
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout compiles for itself
            return
        sys.path.insert(0, self.root)
        try:
            from thirdeye.model.native.prebuilt.manifest import write_manifest  # noqa: PLC0415 (of this tree)

            self._folder = Path(tempfile.mkdtemp(prefix="wheel-kernels-"))
            builds = planned()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = [each for each in pool.map(self._make, builds) if each]
            files = [self._folder / each.file for each in made]
            if files:
                files.append(write_manifest(made, self._folder))
        finally:
            sys.path.remove(self.root)
        build_data["force_include"] |= {str(file): f"{INSIDE}/{file.name}" for file in files}
        said = ", ".join(f"{each.level} (glibc {each.glibc})" for each in made)
        self.app.display_info(f"kernels in the wheel: {said or 'none, no compiler is here'}")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            shutil.rmtree(self._folder)

    def _make(self, build: "Build") -> "Made | None":
        from thirdeye.model.native.build import (  # noqa: PLC0415 (of this tree)
            SOURCES,
            Unavailable,
            compiler_version,
            files_of,
            fingerprint,
        )
        from thirdeye.model.native.prebuilt.manifest import Made  # noqa: PLC0415

        try:
            build.run()
        except Unavailable as reason:
            self.app.display_warning(f"no {build.level.name} in the wheel: {reason}")
            return None
        content = build.library.read_bytes()
        file = f"kernels-{build.level.name}.so"
        (self._folder / file).write_bytes(content)
        return Made(
            file=file,
            level=build.level.name,
            sha256=hashlib.sha256(content).hexdigest(),
            sources_sha256=fingerprint(files_of(SOURCES), build.level),
            compiler=compiler_version(build.compiler).splitlines()[0],
            glibc=glibc_of(content),
        )


def planned() -> "list[Build]":
    """All libraries that compilers on this machine know how to make, for Linux."""
    from thirdeye.model.native.build import (  # noqa: PLC0415 (of this tree)
        SOURCES,
        Build,
        compiler_version,
        files_of,
        knows,
        library_name,
    )
    from thirdeye.model.native.levels import LEVELS  # noqa: PLC0415
    from thirdeye.weights.paths import kernels_directory  # noqa: PLC0415

    builds, files = [], files_of(SOURCES)
    c_files = tuple(file for file in files if file.suffix == ".c")
    for level in LEVELS:
        compiler = compiler_for(level.machine)
        if compiler and knows(compiler, level):
            name = library_name(files, level, compiler_version(compiler))
            builds.append(Build(compiler, c_files, kernels_directory() / name, level))
    return builds


def compiler_for(machine: str) -> str | None:
    """Of programs for Linux on this kind of processor."""
    names = [f"{machine}-linux-gnu-gcc"]
    if platform.system() == "Linux" and platform.machine() == machine:
        names = ["cc", "gcc", "clang", *names]
    return next((found for name in names if (found := shutil.which(name))), None)


def glibc_of(library: bytes) -> str:
    """The oldest that has all versions of symbols which a library names."""
    versions = {match.decode() for match in SYMBOL.findall(library)}
    return max(versions or {"2.0"}, key=lambda version: [int(part) for part in version.split(".")])
