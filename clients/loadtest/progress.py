"""How a run goes, while it goes: a line that moves at a terminal, a line a point elsewhere."""

import asyncio
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from thirdeye.clients.loadtest.driver.drive import Driver
from thirdeye.clients.loadtest.results.show import point_line
from thirdeye.clients.loadtest.results.stats import percentile
from thirdeye.clients.loadtest.run import Point, Watcher

REFRESHES = 8  # per second
BAR = 24  # characters


class LiveProgress(Watcher):
    """Draws on `console`; where that is no terminal it only writes each point's line at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, name: str, driver: Driver, total: int | None) -> None:
        self._stop()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._task = asyncio.get_running_loop().create_task(self._draw(name, driver, total))

    def end(self, point: Point) -> None:
        self._stop()
        self._console.print(point_line(point), highlight=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._live is not None:
            self._live.stop()
        self._task = self._live = None

    async def _draw(self, name: str, driver: Driver, total: int | None) -> None:
        assert self._live is not None
        start = time.perf_counter()
        while True:
            self._live.update(
                status(name, driver, total, time.perf_counter() - start), refresh=True
            )
            await asyncio.sleep(1 / REFRESHES)


def status(name: str, driver: Driver, total: int | None, seconds: float) -> Text:
    """One line: how far, how many at once, how fast, what failed."""
    records = driver.records
    num_done = len(records)
    tokens = sum(record.output_tokens or 0 for record in records)
    first_texts = sorted(record.ttft for record in records if record.ttft is not None)
    text = Text(f"{name:>12} ", style="bold")
    if total:
        filled = min(BAR, BAR * num_done // total)
        text.append("█" * filled, style="green").append("░" * (BAR - filled), style="dim")
    text.append(f" {num_done}{f'/{total}' if total else ''} done, ", style="not bold")
    text.append(f"{driver.num_running} running, {seconds:.0f} s", style="not bold")
    if seconds and tokens:
        text.append(f", {tokens / seconds:.1f} tok/s", style="not bold cyan")
    if first_texts:
        first = 1000 * percentile(first_texts, 0.5)
        text.append(f", first text {first:.0f} ms", style="not bold")
    if failed := sum(record.error is not None for record in records):
        text.append(f", {failed} failed", style="bold red")
    return text
