"""The commands that need no server: list, rm, doctor. Each returns an exit status."""

import platform
import sys

import typer
from rich.table import Table

from thirdeye.server.engine.execution.cpu_threads import own_cpus
from thirdeye.server.launch.console import PlainConsole, fail, printable, say
from thirdeye.server.load.native_kernels import native_status, wheel_status
from thirdeye.server.version import VERSION, version_of
from thirdeye.weights.errors import ModelError
from thirdeye.weights.inventory import files_to_remove, list_models, remove, size_of
from thirdeye.weights.paths import models_directory

PIPED_WIDTH = 5_000  # a line a model for whoever reads it by program: the longest path has 4,096
PACKAGES = ("torch", "fastapi", "starlette", "uvicorn", "sse-starlette", "tiktoken", "safetensors")


def show_models() -> int:
    """A line a model: what is here, and what can be pulled."""
    try:
        entries = list_models()
    except OSError as error:
        return fail(unseen(error))
    table = Table("name", "format", "size", box=None, pad_edge=False)
    table.add_column("where", overflow="fold")  # a path is whole, on two lines if need be
    for entry in entries:
        missing = "damaged" if entry.is_damaged else "not here"
        where = str(entry.path) if entry.path else f"{missing}: thirdeye pull {entry.name}"
        table.add_row(entry.name, entry.format, f"{entry.size_bytes / 1e6:,.0f} MB", where)
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    PlainConsole(width=width).print(table)
    return 0


def remove_model(name: str, *, yes: bool) -> int:
    """Delete a model from the models folder, once a person or `--yes` says so."""
    try:
        paths = files_to_remove(name)
        size = sum(size_of(path) for path in paths) if len(paths) > 1 else size_of(paths[0])
        what = f"{', '.join(str(path) for path in paths)} ({size / 1e6:,.0f} MB)"
        if not yes and not sys.stdin.isatty():
            return fail(f"nobody is there to ask; add --yes to delete {what}.")
        if not yes and not typer.confirm(printable(f"Delete {what}?"), default=False):
            return 1
        remove(paths)
    except (ModelError, OSError) as error:
        return fail(str(error))
    say(f"deleted {what}")
    return 0


def show_doctor() -> int:
    """Versions, device, cache: what a bug report needs. Imports torch."""
    import torch  # noqa: PLC0415 (the other commands do without its two seconds)

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("thirdeye", VERSION)
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        table.add_row(package, version_of(package, "not installed"))
    table.add_row("cpu threads", str(torch.get_num_threads()))
    table.add_row("native kernels", native_status())
    table.add_row("kernels of the wheel", wheel_status())
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            table.add_row(f"cuda:{index}", f"{properties.name}, {memory:.0f} GiB")
    else:
        table.add_row("gpu", "none that this torch build sees")
    table.add_row("ranks", most_ranks(torch.cuda.device_count()))
    table.add_row("cache", str(models_directory()))
    try:
        for entry in list_models():
            table.add_row(
                f"  {entry.name}",
                str(entry.path or ("damaged" if entry.is_damaged else "not here")),
            )
    except OSError as error:
        table.add_row("", unseen(error))
    PlainConsole(soft_wrap=True).print(table)
    return 0


def unseen(error: OSError) -> str:
    return f"no models can be looked for: {error}. See XDG_CACHE_HOME, HF_HOME and HF_HUB_CACHE."


def most_ranks(num_gpus: int) -> str:
    """What `--tensor-parallel` may be on this machine, and what ranks would speak over."""
    most, over = (num_gpus, "NCCL") if num_gpus else (len(own_cpus()), "gloo, on the CPU")
    return f"--tensor-parallel up to {most}, over {over}"
