"""`thirdeye cluster down`, `status` and `targets`: of the cluster that a folder tells of."""

import contextlib
import os
import select
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Any

import msgspec

from thirdeye.server.cluster.cluster_up import NotDeployed, ask_driver
from thirdeye.server.cluster.ray_head import end_all, pids_of
from thirdeye.server.cluster.ray_package import RayMissing, check_ray
from thirdeye.server.cluster.state_folder import FolderUnusable, RunningCluster, StateFolder
from thirdeye.server.launch.console import fail, say


class NotUp(ValueError):
    """There is no cluster; the text says where it was looked for."""


def run_down(state_dir: Path | None) -> int:
    try:
        folder = StateFolder.of(state_dir)
    except FolderUnusable as error:
        return fail(str(error))
    if found := folder.running():
        try:
            end(found.pid)
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGTERM)
            return fail("The answers under way were cut.")
        return 0
    if not pids_of(folder.path):
        return fail(f"No cluster is up in {folder.path}.")
    end_all(folder.path)  # of an `up` that was killed
    say("thirdeye cluster: down")
    return 0


def end(pid: int) -> None:
    """Have `up` end, and wait for that. It has ended also where its parent has not looked yet."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            select.select([process], [], [])
        finally:
            os.close(process)


def run_status(state_dir: Path | None) -> int:
    try:
        running, said = ask(state_dir, "status")
    except (NotUp, NotDeployed, RayMissing, FolderUnusable) as error:
        return fail(str(error))
    is_well = True
    for name, app in said.items():
        states = ", ".join(f"{number} {state}" for state, number in app["replicas"].items())
        path = "" if name == "default" else f"/{name}"
        say(f"{running.url}{path}  {app['status']}  {states or 'no replicas'}")
        if app["message"]:
            say(f"  {app['message'].strip()}")
        is_well = is_well and app["status"] == "RUNNING"
    return 0 if is_well else 1


def run_targets(state_dir: Path | None) -> int:
    try:
        _, said = ask(state_dir, "targets")
    except (NotUp, NotDeployed, RayMissing, FolderUnusable) as error:
        return fail(str(error))
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")
    return 0


def ask(state_dir: Path | None, verb: str) -> tuple[RunningCluster, Any]:
    """Raises `NotUp`, `NotDeployed`, `RayMissing`, `FolderUnusable`."""
    check_ray()
    folder = StateFolder.of(state_dir)
    running = folder.running()
    if running is None:
        raise NotUp(f"No cluster is up in {folder.path}: 'thirdeye cluster up' starts one.")
    return running, ask_driver(verb, running.address, folder.variables(), Event())
