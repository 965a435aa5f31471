"""The table of docs/reliability.md, from the rows and from what was measured last.

python -m tests.trust.page      writes it anew, after a row has changed
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.trust.row import ALONE, BESIDE, Row
from tests.trust.rows import ROWS

DOCS = Path(__file__).parents[2] / "docs"
PAGE, RESULTS = DOCS / "reliability.md", DOCS / "reliability.json"
AT_ONCE = 2  # of what has no limits of time: one for each core
BEGIN, END = "<!-- rows: written by tests/trust/page.py -->", "<!-- end of rows -->"
Results = Mapping[str, dict[str, Any]]  # by row number
Seconds = dict[tuple[int, str], int]  # by row number and how a part is run
HEAD = (
    "| # | what | full size | what holds | in every push | measured |",
    "|---|---|---|---|---|---|",
)


def read_results() -> dict[str, dict[str, Any]]:
    """By row number."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def write_result(number: int, result: dict[str, Any]) -> None:
    """In the place of what was measured of this row before; and the page."""
    found = read_results() | {str(number): result}
    text = json.dumps(dict(sorted(found.items(), key=lambda i: int(i[0]))), indent=1)
    RESULTS.write_text(text + "\n")
    write_page()


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} x {names[0] if names else platform.machine()}"


def table() -> str:
    results = read_results()
    lines = [_line(row, results.get(str(row.number))) for row in ROWS]
    return "\n".join([_said_of_all(results), "", *HEAD, *lines])


def expected_seconds(results: Results) -> Seconds:
    """Of each row's parts: what they took when they ran last. Where nobody knows that, because the
    row was run in another way or beside other work, what is `expected` of them."""
    found: Seconds = {}
    for row in ROWS:
        result = results.get(str(row.number), {})
        known = result.get("parts") or result.get("expected")
        for how in row.parts:
            found[row.number, how] = known.get(how, 0) if known else result.get("seconds", 0)
    return found


def scheduled(rows: Iterable[Row], seconds: Seconds) -> tuple[int, int]:
    """By what each part takes: how long those run that are run alone, and then the others, of which
    `AT_ONCE` run at once, the longest first."""
    rows = list(rows)
    alone = sum(seconds.get((row.number, ALONE), 0) for row in rows if ALONE in row.parts)
    lanes = [0] * AT_ONCE
    others = (seconds.get((row.number, BESIDE), 0) for row in rows if BESIDE in row.parts)
    for took in sorted(others, reverse=True):
        lanes[lanes.index(min(lanes))] += took
    return alone, max(lanes)


def said_of_time(rows: Iterable[Row], results: Results) -> str:
    alone, others = scheduled(rows, expected_seconds(results))
    return (
        f"{alone + others:,} s ({(alone + others) / 60:.0f} min): {alone:,} s one by one, then "
        f"{others:,} s with {AT_ONCE} at once"
    )


def _said_of_all(results: Results) -> str:
    return f"`make trust` is expected to take {said_of_time(ROWS, results)}."


def _line(row: Row, result: dict[str, Any] | None) -> str:
    cells = (str(row.number), row.title, row.size, row.holds, row.push_size, _measured(result))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _measured(result: dict[str, Any] | None) -> str:
    if result is None:
        return "not run yet"
    figures = [f"{name.replace('_', ' ')} {_shown(v)}" for name, v in result["figures"].items()]
    said = "; ".join(figures) or f"{result['passed']} tests"
    skipped = f"; {len(result['skipped'])} skipped" if result["skipped"] else ""
    broken = "" if result["holds"] else "**does not hold** "
    cores = f", {result['cpu_seconds']:,} s of processors" if "cpu_seconds" in result else ""
    return f"{broken}{said}{skipped} ({result['seconds']:,} s{cores}, {result['date']})"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def replaced(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def write_page() -> None:
    PAGE.write_text(replaced(PAGE.read_text()))


if __name__ == "__main__":
    write_page()
