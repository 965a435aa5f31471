"""One cluster for the module: Ray in an environment and a network namespace of its own."""

import os
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.on_ray.namespace import Namespace
from tests.deploy.on_ray.running_cluster import Cluster
from tests.deploy.routers.router_environment import RAY
from tests.tiny import tiny_llama

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def schema_exact() -> None:
    """What Ray and HAProxy say by themselves is not held to the schemas."""


@pytest.fixture(scope="module")
def python() -> Path:
    return ray_python()


def ray_python() -> Path:
    """Of Ray's environment, which finds our package, and beside it what it does not have itself."""
    program = RAY.installed()
    (packages,) = (RAY.home / "lib").glob("python*/site-packages")
    ours = f"{ROOT}\n{sysconfig.get_path('purelib')}\n"
    for line in Path(sysconfig.get_path("purelib")).glob("*.pth"):
        ours += "".join(f"{part}\n" for part in line.read_text().splitlines() if part[:1] == "/")
    part = packages / f"ours.{os.getpid()}.part"
    part.write_text(ours)
    part.replace(packages / "ours.pth")
    return program.with_name("python")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(python: Path, namespace: Namespace) -> Iterator[Cluster]:
    """Two replicas of a tiny model. The folder's path is short: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="te", dir="/tmp") as folder, namespace.entered():
        model = Path(folder) / "model"
        model.mkdir()
        tiny_llama(model, context=4096)
        state = Path(folder) / "s"
        options = ("--model", f"tiny={model}", "--quantize", "none", "--replicas", "2")
        running = Cluster(python, namespace, state, *options, "--cpus", "1")
        yield running
        running.close()


@pytest.fixture(autouse=True)
def inside(namespace: Namespace) -> Iterator[None]:
    with namespace.entered():
        yield
