"""The files for a Ray cluster of one's own say what `thirdeye cluster up` does."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.deploy.manifests.manifest_files import documents
from tests.deploy.promql import DEPLOY
from thirdeye.server.cluster.cluster_options import AppSpec, longest_answer
from thirdeye.server.cluster.cluster_settings import NOT_FOR_REPLICAS, ClusterSettings
from thirdeye.server.cluster.ray_environment import LEAVING, SPARE, ray_variables
from thirdeye.server.cluster.ray_package import TRIED
from thirdeye.server.cluster.state_folder import StateFolder
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import Settings

BUILD = "thirdeye.server.cluster.on_ray.applications:build"
OF_A_FOLDER = ("THIRDEYE_CLUSTER_FOLDER", "_PATH", "_LOC", "_BASE", "_FILE", "_PORT")
OF_THE_HEAD = ("RAY_gcs_", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")  # Redis keeps it, or nobody


def service() -> dict[str, Any]:
    found: dict[str, Any] = documents("kubernetes/rayservice.yaml")[0]
    return found


def serve_config(file: str) -> dict[str, Any]:
    text = (DEPLOY / "ray/serve.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(
        text if file == "serve.yaml" else service()["spec"]["serveConfigV2"]
    )
    return found


def spec_in(file: str) -> AppSpec:
    (app,) = serve_config(file)["applications"]
    assert app["import_path"] == BUILD
    return msgspec.convert(app["args"], AppSpec)


def settings_in(file: str) -> Settings:
    options = dict(spec_in(file).options)
    assert not options.keys() & (NOT_FOR_REPLICAS.keys() - {"model"})
    options.pop("api_key_file", None)  # a secret of theirs
    return read_settings(options)


@pytest.mark.parametrize("file", ["serve.yaml", "rayservice.yaml"])
def test_what_is_built_takes_its_arguments(file: str) -> None:
    spec, settings = spec_in(file), settings_in(file)
    least, most = spec.autoscale or (0, 0)
    assert 1 <= least <= spec.replicas <= most
    assert settings.network.host == serve_config(file)["http_options"]["host"]


def test_haproxy_is_where_requests_come() -> None:
    """At the head by the file for one's own cluster. KubeRay asks, and uses, each worker's."""
    assert serve_config("serve.yaml")["proxy_location"] == "HeadOnly"
    assert serve_config("rayservice.yaml")["proxy_location"] == "EveryNode"


def test_kuberays_operator_finds_the_dashboard() -> None:
    """By a port of the head's service, which has the ports that are named here and no others; it
    listens for other pods unless it is told not to."""
    head = service()["spec"]["rayClusterConfig"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    assert {"name": "dashboard", "containerPort": 8265} in container["ports"]
    assert "dashboard-host" not in head["rayStartParams"]


def variables_of_env() -> dict[str, str]:
    lines = (DEPLOY / "ray/ray.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if not line.startswith("#"))
    return dict(pairs)


def test_the_variables_are_those_of_up() -> None:
    folder = StateFolder(Path("/state"))
    longest = longest_answer(settings_in("serve.yaml"))
    wanted = {
        name: value
        for name, value in ray_variables(ClusterSettings(), folder, longest, (1, 2)).items()
        if not name.endswith(OF_A_FOLDER) and not name.startswith(OF_THE_HEAD)
    }
    assert variables_of_env() == wanted


def test_kuberays_pods_have_them_too() -> None:
    data = documents("kubernetes/rayservice.yaml")[1]["data"]
    asked = service()["spec"]["rayClusterConfig"]
    assert {**data, "RAY_AUTH_MODE": asked["authOptions"]["mode"]} == variables_of_env()
    for group in (asked["headGroupSpec"], *asked["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": "thirdeye-ray"}}]


def test_kuberays_pods_wait_for_the_longest_answer() -> None:
    asked = service()["spec"]["rayClusterConfig"]
    needed = longest_answer(settings_in("rayservice.yaml")) + LEAVING + SPARE
    for group in (asked["headGroupSpec"], *asked["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= needed
    assert asked["rayVersion"].startswith(f"{TRIED}.")
    assert asked["gcsFaultToleranceOptions"]["redisAddress"]


def test_rays_autoscaler_has_what_it_asks_kubernetes_with() -> None:
    """In the head's pod: ray 2.60 (`autoscaler/_private/kuberay/node_provider.py`) reads the
    service account's token, and fails without. Nobody else has it."""
    asked = service()["spec"]["rayClusterConfig"]
    head, workers = asked["headGroupSpec"], asked["workerGroupSpecs"]
    wanted = {True: asked["enableInTreeAutoscaling"], False: False}
    for is_head, group in ((True, head), *((False, group) for group in workers)):
        assert group["template"]["spec"]["automountServiceAccountToken"] is wanted[is_head]


def test_a_replica_fits_its_pod_and_scaling_the_pods() -> None:
    (group,) = service()["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    spec = spec_in("rayservice.yaml")
    assert float(group["rayStartParams"]["num-cpus"]) == spec.cpus
    assert [group["minReplicas"], group["maxReplicas"]] == list(spec.autoscale or ())
