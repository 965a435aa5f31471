"""How Ray is run: its variables, the command that starts its head, HAProxy's own addresses."""

from thirdeye.server.cluster.cluster_settings import ClusterSettings
from thirdeye.server.cluster.state_folder import StateFolder

OWNER = "THIRDEYE_CLUSTER_FOLDER"  # by which the processes of a cluster are known
BODY_BYTES = 256 * 1024  # of a request that HAProxy shows the picker
LEAVING = 5  # seconds in which a replica that ends still takes what is on its way to it
SPARE = 60  # seconds beyond the longest answer
HEAD_GONE = 600  # seconds that the rest of the cluster waits for its head to come back
HAPROXY = """\
#!/bin/sh
# HAProxy as Ray runs it, but its own pages (statistics, metrics) answer this machine alone.
for word in "$@"; do
    if [ "$before" = -f ]; then
        sed -i 's/^\\( *bind \\)\\*\\{0,1\\}:/\\1127.0.0.1:/; s/ mode 666 / mode 600 /' "$word"
    fi
    before=$word
done
exec PROGRAM "$@"
"""


def ray_variables(
    cluster: ClusterSettings, folder: StateFolder, longest: float, ports: tuple[int, int]
) -> dict[str, str]:
    """For every process of the cluster. `longest`: seconds of the longest answer, which nothing may
    cut; `ports`: of HAProxy's statistics and metrics."""
    drained = int(longest) + SPARE
    haproxy = folder.haproxy
    found = {
        OWNER: str(folder.path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder.token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(folder.storage),
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(HEAD_GONE),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
        "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE": str(BODY_BYTES),
        "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_TIMEOUT_S": "30",  # else a request is refused
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(LEAVING),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(drained),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(drained),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(drained),
        # A check that takes long is no refusal; a connection that fails counts at once.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "5s",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "2s",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "3",
        # Nor is a start that takes long: Ray would kill its proxy after 5 s, and begin again.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[1]),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_worker_niceness": "0",  # Ray's own is 15: behind everything else on the machine
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        # In one event loop with Ray's server a token is written to its socket without a detour.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    }
    if cluster.is_alone:  # else Ray takes another address of this machine, and listens on all
        found["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return found


def head_command(
    python: str, cluster: ClusterSettings, folder: StateFolder, num_cores: int, client_port: int
) -> list[str]:
    """`client_port` is for Ray's own clients: it is not used, and Ray always opens one."""
    return [
        *(python, "-P", "-m", "ray.scripts.scripts", "start", "--head"),
        *("--node-ip-address", cluster.node_address),
        *("--port", str(cluster.ray_port)),
        *("--num-cpus", str(num_cores)),
        *("--temp-dir", str(folder.ray)),
        *("--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats"),
        *("--ray-client-server-port", str(client_port)),
        *("--object-store-memory", str(80 << 20)),  # what replicas answer does not go through it
    ]


def shell_script(variables: dict[str, str]) -> str:
    """To be read by a shell on this machine, or on one that is to join."""
    return "".join(f"export {name}='{value}'\n" for name, value in sorted(variables.items()))
