"""What a user may do with a file, done with a hostile one: how it ends and what it costs.

Time is the process's own, not the clock's; memory is the most that was resident at once, above what
was before. A table whose cells have been printed before is not laid out once more: of a hundred
thousand files nearly all that are described are described alike, and the layout is half the cost.
"""

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from rich.table import Table

from tests.weights.sinks import RecordingSink
from thirdeye.server.launch.commands import info_command
from thirdeye.server.launch.console import PlainConsole
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.load import load_weights

MAX_SECONDS = 2.0
MAX_BYTES = 200 << 20


@dataclass(frozen=True)
class Trial:
    """`refusals` of `info`, of `serve` and of the loader, each as it is printed; `seconds` of the
    one that took longest."""

    refusals: tuple[str, ...]
    seconds: float
    num_bytes: int


class _NewTables(PlainConsole):
    """Prints each table once in this process."""

    printed: ClassVar[set[tuple[object, ...]]] = set()

    def print(self, *objects: Any, **options: Any) -> None:
        if objects and isinstance(objects[0], Table):
            cells = tuple(tuple(column.cells) for column in objects[0].columns)
            if cells in self.printed:
                return
            self.printed.add(cells)
        super().print(*objects, **options)


def try_file(path: Path) -> Trial:
    """Describe it, open it, load it. Anything but a refusal is raised."""
    before, longest = _forget_peak(), 0.0
    refusals: list[str] = []
    for step in (_info, _serve, _load):
        began = time.process_time()
        refusals += step(path) if step is not _load or not refusals else []
        longest = max(longest, time.process_time() - began)
    return Trial(tuple(refusals), longest, _resident("VmHWM") - before)


def check_cost(work: Callable[[], object]) -> None:
    """Within the same limits."""
    before, began = _forget_peak(), time.process_time()
    work()
    assert time.process_time() - began < MAX_SECONDS
    assert _resident("VmHWM") - before < MAX_BYTES


def check(path: Path, trial: Trial) -> None:
    """One line each, with the place; and both commands agree."""
    for line in trial.refusals:
        assert "\n" not in line, line
        assert len(line) < 2000, line[:2000]
        assert str(path) in line or "template" in line, line
    assert trial.seconds < MAX_SECONDS, trial
    assert trial.num_bytes < MAX_BYTES, trial


def _info(path: Path) -> list[str]:
    output = io.StringIO()
    console = mock.patch.object(info_command, "PlainConsole", _NewTables)
    with contextlib.redirect_stdout(output), console:
        status = info_command.show_info(str(path))
    _, refused, lines = output.getvalue().partition("\nserves: no\n")
    assert status == (1 if refused else 0)
    return [line.strip() for line in lines.splitlines()]


def _serve(path: Path) -> list[str]:
    try:
        open_model(CheckpointSettings(model=str(path)))
    except (ModelError, ChatTemplateError) as error:
        return [str(error)]
    return []


def _load(path: Path) -> list[str]:
    try:
        checkpoint = open_checkpoint(path)
        load_weights(checkpoint, RecordingSink(checkpoint.config))
    except ModelError as error:
        return [str(error)]
    return []


def _forget_peak() -> int:
    """Bytes resident now, from which the kernel counts the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(kind: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) << 10
    raise AssertionError(kind)
