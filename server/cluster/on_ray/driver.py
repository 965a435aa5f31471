"""The process that talks to Ray for `thirdeye cluster`: `driver VERB`, JSON in and out.

In a process of its own, as Ray reads its variables when it is imported, and keeps threads.
"""

import sys
import time
from collections.abc import Callable, Collection
from typing import Any

import msgspec
import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.schema import ProxyStatus

from thirdeye.server.cluster.cluster_options import AppSpec
from thirdeye.server.cluster.on_ray.applications import NAME, build

LOOK = 0.2  # seconds
STARTING = 300.0  # seconds, for HAProxy


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    address: str  # of Ray's head
    host: str = "127.0.0.1"  # where requests are taken
    port: int = 8000
    apps: dict[str, AppSpec] = {}  # by the path of each

    @property
    def http_options(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port}


def main() -> int:
    verb = sys.argv[1]
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Deployment)
    ray.init(address=asked.address, namespace="serve", log_to_driver=False, logging_level="ERROR")
    sys.stdout.write(msgspec.json.encode(VERBS[verb](asked)).decode() + "\n")
    sys.stdout.flush()
    return 0


def deploy(asked: Deployment) -> dict[str, Any]:
    """Return once all applications run. Raises RuntimeError with Ray's reason."""
    start(asked)
    serve.run_many(
        [
            serve.RunTarget(build(msgspec.to_builtins(spec)), name_of(path), route_prefix=path)
            for path, spec in asked.apps.items()
        ]
    )
    return status(asked)


def start(asked: Deployment) -> None:
    """Ray Serve with HAProxy, unless it is there. Ray waits a minute for that; where the machine
    does much else it goes on by itself, and is waited for here. Raises TimeoutError."""
    ends = time.monotonic() + STARTING
    try:
        serve.start(proxy_location="HeadOnly", http_options=asked.http_options)
    except (TimeoutError, RayActorError):
        serve.start(proxy_location="HeadOnly", http_options=asked.http_options)  # finds it
    while not all_healthy(serve.status().proxies.values()):
        if time.monotonic() > ends:
            raise TimeoutError(f"HAProxy has not started within {STARTING:g} s.")
        time.sleep(LOOK)


def all_healthy(proxies: Collection[str]) -> bool:
    return bool(proxies) and all(proxy == ProxyStatus.HEALTHY for proxy in proxies)


def status(_: Deployment) -> dict[str, Any]:
    """Of each application, its replicas by their state."""
    return {
        name: {
            "status": str(found.status.value),
            "message": found.message,
            "replicas": dict(found.deployments[NAME].replica_states)
            if NAME in found.deployments
            else {},
        }
        for name, found in serve.status().applications.items()
    }


def targets(_: Deployment) -> list[dict[str, Any]]:
    """The replicas' own ports, as Prometheus's `http_sd_config` and `file_sd_config` read them."""
    controller = _get_global_client()._controller
    groups = ray.get(controller.get_target_groups.remote(from_proxy_manager=True))
    return [
        {
            "targets": [f"{target.ip}:{target.port}" for target in group.targets],
            "labels": {
                "app": group.app_name,
                "__metrics_path__": f"{group.route_prefix.rstrip('/')}/metrics",
            },
        }
        for group in groups
        if group.protocol.value == "HTTP" and group.app_name
    ]


def shut_down(_: Deployment) -> dict[str, Any]:
    """Every application, its answers first; then the rest of Ray Serve, HAProxy among it, which
    would take the answers along. How long answers may take is for the replicas to say: Ray's own
    commands for this would wait for a minute at most."""
    client = _get_global_client()
    client.delete_apps(list(serve.status().applications), blocking=False)
    while serve.status().applications:
        time.sleep(LOOK)
    client.shutdown(timeout_s=None)
    return {}


def name_of(path: str) -> str:
    return path.strip("/") or "default"


VERBS: dict[str, Callable[[Deployment], Any]] = {
    "deploy": deploy,
    "status": status,
    "targets": targets,
    "shut_down": shut_down,
}

if __name__ == "__main__":
    raise SystemExit(main())
