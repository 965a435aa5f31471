"""Kubernetes, KEDA, llm-d and compose: what they name exists, and their sums come out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.support import create_app, fake_engine, ready_state
from tests.deploy.manifests.manifest_files import (
    PORT,
    SETTINGS,
    documents,
    flags,
    kinds,
    yaml_files,
)
from tests.deploy.promql import DEPLOY, problems
from thirdeye.server.settings.read_settings import read_settings

K8S = "kubernetes/deployment.yaml"
COMPOSE = "compose/compose.yaml"
MARGIN = 5  # seconds after the last answer: the engine ends, and the process


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = kinds(K8S)["Deployment"]["spec"]["template"]["spec"]
    return spec


def server() -> dict[str, Any]:
    (container,) = pod()["containers"]
    return dict(container)


def told(container: dict[str, Any]) -> dict[str, str | None]:
    command, *args = container["args"]
    assert command == "serve"
    return flags(args)


def seconds(given: dict[str, str | None], flag: str) -> float:
    return float(given.get(flag) or str(SETTINGS[flag].default))


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    assert [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_the_server_takes_what_it_is_told() -> None:
    given = {flag[2:].replace("-", "_"): value for flag, value in told(server()).items()}
    given.pop("api_key_file")  # a secret of theirs
    read_settings({name: True if value is None else value for name, value in given.items()})


def test_a_pod_has_time_to_drain() -> None:
    """What stops it waits for the delay, then for running answers, then for the end."""
    given = told(server())
    needed = seconds(given, "--drain-delay") + seconds(given, "--drain-timeout") + MARGIN
    assert pod()["terminationGracePeriodSeconds"] >= needed
    assert "lifecycle" not in server(), "--drain-delay is the preStop hook"


def test_the_delay_is_longer_than_readiness_takes_to_tell() -> None:
    probe = server()["readinessProbe"]
    told_within = probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])
    assert seconds(told(server()), "--drain-delay") >= 2 * told_within


def test_probes_ask_routes_that_need_no_key() -> None:
    paths = {name: server()[name]["httpGet"] for name in server() if name.endswith("Probe")}
    assert {name: get["path"] for name, get in paths.items()} == {
        "startupProbe": "/ready",
        "readinessProbe": "/ready",
        "livenessProbe": "/health",
    }
    assert {get["port"] for get in paths.values()} == {"http"}
    assert {path["path"] for path in paths.values()} <= set(
        create_app(ready_state(fake_engine())).openapi()["paths"]
    )


def test_names_and_ports_meet() -> None:
    found = kinds(K8S)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert server()["ports"] == [{"name": "http", "containerPort": PORT}]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    image = (DEPLOY / "Dockerfile").read_text()
    assert f"EXPOSE {PORT}\n" in image
    volumes = {volume["name"] for volume in pod()["volumes"]}
    for container in (*pod()["containers"], *pod()["initContainers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert {"/cache", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_a_pod_is_shut_in_as_the_container_is() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == 65534
    assert pod()["automountServiceAccountToken"] is False
    for container in (*pod()["containers"], *pod()["initContainers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_keda_scales_by_what_is_measured() -> None:
    (scaled,) = documents("kubernetes/keda.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] == kinds(K8S)["Deployment"]["metadata"]["name"]
    assert scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    by_name = {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}
    for trigger in by_name.values():
        assert problems(trigger["query"]) == []
    places = float(told(server()).get("--max-num-seqs") or SETTINGS["--max-num-seqs"].default)  # type: ignore[arg-type]  # a number's default
    assert float(by_name["running"]["threshold"]) == pytest.approx(0.6 * places, abs=1)


def test_llm_d_finds_the_pods_and_their_load() -> None:
    (values,) = documents("kubernetes/llm-d-values.yaml")
    servers = values["router"]["modelServers"]
    labels = kinds(K8S)["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert servers["matchLabels"].items() <= labels.items()
    assert [port["number"] for port in servers["targetPorts"]] == [PORT]
    assert servers["type"] == "vllm"
    assert {"--vllm-metrics", "--open-metrics"} <= told(server()).keys()
    assert values["router"]["epp"]["metricsDataSource"]["path"] == "/metrics"


def replicas() -> dict[str, dict[str, Any]]:
    services = documents(COMPOSE)[0]["services"]
    return {name: service for name, service in services.items() if name.startswith("replica")}


def test_compose_runs_replicas_that_drain_and_are_shut_in() -> None:
    assert len(replicas()) == 2
    for service in replicas().values():
        given = told({"args": service["command"]})
        needed = seconds(given, "--drain-delay") + seconds(given, "--drain-timeout") + MARGIN
        assert float(service["stop_grace_period"].removesuffix("s")) >= needed
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["expose"] == [str(PORT)]
        assert "ports" not in service, "the proxy is the only door"
        assert {name for name in service["environment"] if name.startswith("THIRDEYE_")} <= {
            row.variable for row in SETTINGS.values()
        }


def test_compose_names_its_own_services_and_files() -> None:
    whole = documents(COMPOSE)[0]
    targets = [f"{name}:{PORT}" for name in replicas()]
    assert whole["services"]["caddy"]["environment"]["REPLICAS"].split() == targets
    (prometheus,) = documents("compose/prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": targets}]
    assert job["job_name"] == "thirdeye"
    (source,) = documents("compose/grafana-datasource.yml")[0]["datasources"]
    assert re.fullmatch(r"http://prometheus:\d+", source["url"])
    for service in whole["services"].values():
        for volume in service["volumes"]:
            name, target, *_ = volume.split(":")
            if name.startswith("."):
                assert (DEPLOY / "compose" / name).is_file(), name
            else:
                assert name in whole["volumes"], name
            assert target.startswith("/")
    (provider,) = documents("compose/grafana-dashboards.yml")[0]["providers"]
    mounted = [volume.split(":")[1] for volume in whole["services"]["grafana"]["volumes"]]
    assert any(str(Path(target).parent) == provider["options"]["path"] for target in mounted)


def test_routers_ask_the_readiness_of_replicas() -> None:
    """The files that the tests in tests/deploy/routers start; here, what they say of us."""
    (envoy,) = documents("routers/envoy.yaml")
    (cluster,) = envoy["static_resources"]["clusters"]
    (check,) = cluster["health_checks"]
    assert check["http_health_check"]["path"] == "/ready"
    for script in ("smg.sh", "vllm-router.sh"):
        assert "--health-check-endpoint /ready" in (DEPLOY / "routers" / script).read_text()
    assert "health_uri /ready" in (DEPLOY / "routers/Caddyfile").read_text()
    for path in sorted((DEPLOY / "routers").iterdir()):
        head = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
        for flag in re.findall(r"--[a-z-]+(?= |;|,|$)", head.partition("serve ")[2]):
            assert flag in SETTINGS, (path.name, flag)


def test_folders_of_files_to_copy_are_small() -> None:
    for folder in (DEPLOY, *(path for path in DEPLOY.rglob("*") if path.is_dir())):
        assert len([path for path in folder.iterdir() if path.is_file()]) <= 13
