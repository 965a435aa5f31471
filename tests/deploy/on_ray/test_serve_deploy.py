"""Without our command: Ray's own `serve deploy` with the files of deploy/ray, in a Ray that was
started with the variables of `ray.env`."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.on_ray.namespace import Namespace
from tests.deploy.on_ray.running_cluster import BODY, CHAT, STARTING, wait_for
from tests.deploy.promql import DEPLOY
from tests.tiny import tiny_llama
from thirdeye.server.cluster.ray_environment import OWNER
from thirdeye.server.cluster.ray_head import RayHead

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]
DASHBOARD = "http://127.0.0.1:8265"


def variables_of_file() -> dict[str, str]:
    lines = (DEPLOY / "ray/ray.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="te", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def head(python: Path, folder: Path, namespace: Namespace) -> Iterator[RayHead]:
    """Ray as the file's first lines say."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("7" * 64)
    own = {OWNER: str(folder), "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": DASHBOARD}
    command = [
        *(str(python), "-P", "-m", "ray.scripts.scripts", "start", "--head"),
        *("--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1"),
        *("--num-cpus", "2", "--temp-dir", str(folder / "ray"), "--disable-usage-stats"),
        *("--object-store-memory", str(80 << 20)),
    ]
    with namespace.entered():
        head = RayHead(folder, command, variables_of_file() | own)
        try:
            head.start()
            yield head
        finally:
            head.stop()


def serve(python: Path, head: RayHead, *words: str) -> str:
    """What Ray's own command says; nothing where it fails, as it does when Ray takes long."""
    done = subprocess.run(
        [str(python.with_name("serve")), *words],
        env={**os.environ, **head.environment},  # noqa: TID251 (handed on)
        capture_output=True,
        text=True,
        timeout=STARTING,
    )
    return "" if done.returncode else done.stdout + done.stderr


def state_of(app: str, said: str) -> str:
    found = yaml.safe_load(said) if said else {}
    return str(found.get("applications", {}).get(app, {}).get("status"))


def test_the_file_is_deployed_and_answers(python: Path, head: RayHead, folder: Path) -> None:
    """As it is, but for a model that is here and a machine of two cores."""
    model = folder / "model"
    model.mkdir()
    tiny_llama(model, context=512)
    config = yaml.safe_load((DEPLOY / "ray/serve.yaml").read_text())
    (app,) = config["applications"]
    app["args"] |= {"cpus": 1, "autoscale": [2, 2]}
    app["args"]["options"] |= {"model": str(model), "served_model_name": ["tiny"]}
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    wait_for(lambda: serve(python, head, "deploy", str(file)), "it takes the file")
    wait_for(lambda: state_of("default", serve(python, head, "status")) == "RUNNING", "it runs")
    url = f"http://127.0.0.1:8000{CHAT}"
    said = [{"role": "user", "content": "Hello"}]
    body = {**BODY, "stream": False, "max_tokens": 8, "messages": said}
    answer = httpx.post(url, json=body, timeout=300)
    assert answer.json()["usage"]["completion_tokens"] == 8
    events = httpx.post(url, json={**body, "stream": True}, timeout=300).text
    assert events.endswith("data: [DONE]\n\n")
    assert serve(python, head, "shutdown", "--yes")
