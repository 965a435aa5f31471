"""What `thirdeye cluster up` takes, what it refuses and why; all without Ray."""

import shlex
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from thirdeye.server.cluster.cluster_options import (
    AppSpec,
    applications,
    longest_answer,
    split_options,
)
from thirdeye.server.cluster.cluster_settings import (
    NOT_FOR_REPLICAS,
    ClusterSettings,
    cluster_rows,
    replica_rows,
)
from thirdeye.server.cluster.picking.wanted_replicas import wanted_replicas
from thirdeye.server.cluster.ray_environment import (
    HAPROXY,
    head_command,
    ray_variables,
    shell_script,
)
from thirdeye.server.cluster.state_folder import FolderUnusable, RunningCluster, StateFolder
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import all_settings


def test_each_setting_is_the_clusters_or_a_replicas_or_refused_for_a_reason() -> None:
    rows = [row.name for row in (*cluster_rows(), *replica_rows())]
    assert len(rows) == len(set(rows))
    known = {row.name for row in all_settings()}
    assert NOT_FOR_REPLICAS.keys() <= known
    assert known <= set(rows) | NOT_FOR_REPLICAS.keys()


def test_options_are_split_and_both_parts_are_checked() -> None:
    cluster, rest = split_options({"replicas": 3, "autoscale": "1:4", "max_num_seqs": 8})
    assert (cluster.replicas, cluster.limits, rest) == (3, (1, 4), {"max_num_seqs": 8})
    for wrong in ({"replicas": 0}, {"autoscale": "0:4"}, {"autoscale": "2"}, {"max_num_seqs": 0}):
        with pytest.raises(ValidationError):
            split_options(wrong)
    with pytest.raises(ValueError, match="'--autoscale' 4:1: the first must not be the larger"):
        split_options({"autoscale": "4:1"})[0].limits  # noqa: B018


@pytest.mark.parametrize(
    ("asked", "num_cores", "each"),
    [
        ({"replicas": 2}, 8, 4),
        ({"replicas": 3}, 8, 2),
        ({"autoscale": "1:4"}, 8, 2),
        ({"replicas": 2, "model": ("a", "b")}, 8, 2),
        ({"replicas": 4, "cpus": 0.5}, 2, 0.5),
        ({"replicas": 8, "node_address": "10.0.0.1"}, 2, 1),
    ],
)
def test_cores_are_shared_out(asked: dict[str, object], num_cores: int, each: float) -> None:
    assert ClusterSettings(**asked).cpus_each(num_cores) == each  # type: ignore[arg-type]


def test_what_one_machine_does_not_have_is_told_and_not_waited_for() -> None:
    with pytest.raises(ValueError, match=r"4 replicas of 1 cores want 4.*say '--cpus' 0\.5"):
        ClusterSettings(replicas=4).cpus_each(2)


def test_each_model_is_an_app_at_its_path() -> None:
    one = applications(ClusterSettings(replicas=2), {"max_num_seqs": 8}, 1)
    options = {"max_num_seqs": 8, "model": "smollm2"}
    assert one == {"/": AppSpec(options=options, replicas=2, cpus=1, gpus=0)}
    two = applications(ClusterSettings(model=("big=/m/big.gguf", "/m/small.gguf")), {}, 1)
    assert list(two) == ["/big", "/small"]
    assert two["/big"].options == {"model": "/m/big.gguf", "served_model_name": ["big"]}
    with pytest.raises(ValueError, match="two models are called small: say NAME=MODEL"):
        applications(ClusterSettings(model=("/a/small.gguf", "/b/small.gguf")), {}, 1)
    with pytest.raises(ValueError, match="'--served-model-name' is of one model"):
        applications(ClusterSettings(model=("a", "b")), {"served_model_name": ["x"]}, 1)


@pytest.mark.parametrize(
    ("running", "waiting", "num_replicas", "wanted"),
    [(0, 0, 3, 1), (38, 0, 1, 1), (39, 0, 1, 2), (10, 1, 1, 2), (64, 64, 1, 4), (10, 0.4, 2, 1)],
)
def test_what_waits_wants_one_more(
    running: float, waiting: float, num_replicas: int, wanted: int
) -> None:
    assert wanted_replicas(running, waiting, num_replicas, target=38.4) == wanted


# --- how Ray is run ---


def variables(tmp_path: Path, **asked: object) -> dict[str, str]:
    cluster = ClusterSettings(**asked)  # type: ignore[arg-type]
    return ray_variables(cluster, StateFolder(tmp_path), 600, (9001, 9002))


def test_ray_asks_for_a_token_and_nothing_cuts_the_longest_answer(tmp_path: Path) -> None:
    found = variables(tmp_path)
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    for name in ("HARD_STOP_AFTER", "TIMEOUT_CLIENT", "TIMEOUT_SERVER"):
        assert int(found[f"RAY_SERVE_HAPROXY_{name}_S"]) > 600
    assert longest_answer(read_settings({"request_timeout": 0})) > 600
    assert found["RAY_gcs_storage"] == "rocksdb"


def test_it_is_on_loopback_unless_told(tmp_path: Path) -> None:
    """Ray takes another address for 127.0.0.1, and then listens on all, unless this is off."""
    switch = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert variables(tmp_path)[switch] == "0"
    assert switch not in variables(tmp_path, node_address="10.0.0.1")
    command = head_command("python", ClusterSettings(), StateFolder(tmp_path), 2, 9003)
    assert command[command.index("--node-ip-address") + 1] == "127.0.0.1"
    assert "--include-dashboard=false" in command


def test_a_shell_reads_the_variables(tmp_path: Path) -> None:
    found = variables(tmp_path)
    script = shell_script(found) + "env"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={})
    read = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found.items() <= read.items()


def test_haproxys_own_pages_answer_this_machine_alone(tmp_path: Path) -> None:
    """The script that stands for HAProxy changes these lines of Ray's file, and no other."""
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "    stats socket /s/admin.sock mode 666 level admin expose-fd listeners\n"
        "frontend prometheus\n    bind :9101\nfrontend http_frontend\n    bind 0.0.0.0:8000\n"
        "listen stats\n  bind *:8404\n"
    )
    script = tmp_path / "haproxy"
    script.write_text(HAPROXY.replace("PROGRAM", "/bin/echo"))
    command = ["sh", str(script), "-db", "-f", str(config), "-sf", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shlex.split(done.stdout) == command[2:]
    assert config.read_text() == (
        "    stats socket /s/admin.sock mode 600 level admin expose-fd listeners\n"
        "frontend prometheus\n    bind 127.0.0.1:9101\n"
        "frontend http_frontend\n    bind 0.0.0.0:8000\n"
        "listen stats\n  bind 127.0.0.1:8404\n"
    )


# --- the folder ---


def test_a_folder_is_its_owners_alone(tmp_path: Path) -> None:
    open_to_others = tmp_path / "open"
    open_to_others.mkdir(mode=0o755)
    open_to_others.chmod(0o755)
    with pytest.raises(FolderUnusable, match="chmod 700"):
        StateFolder(open_to_others).make()
    folder = StateFolder(tmp_path / "own")
    folder.make()
    token = folder.token.read_text()
    assert (len(token), folder.token.stat().st_mode & 0o777) == (64, 0o600)
    folder.clear()
    (folder.storage / "old").touch()
    folder.clear()
    folder.make()
    assert folder.token.read_text() == token
    assert list(folder.storage.iterdir()) == []


def test_a_path_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(FolderUnusable, match="characters, at most 36"):
        StateFolder.of(Path("/" + "x" * 40))


def test_a_cluster_is_up_while_the_process_that_runs_it_lives(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert folder.running() is None
    child = subprocess.Popen(["sleep", "60"])
    up = RunningCluster(pid=child.pid, address="127.0.0.1:6379", url="http://x", apps={"/": "m"})
    folder.remember(up)
    assert folder.running() == up
    child.kill()
    child.wait()
    assert folder.running() is None
    folder.forget()
    folder.forget()
