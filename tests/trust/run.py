"""Run the plan, or some of its rows, at full size, and write what came of it.

    make trust                      all rows; docs/reliability.md says how long they take
    make trust ROWS="5 10"          these
    python -m tests.trust.run       the same

It says first how long it will take. Each row is a run of pytest of its own, or two: what has limits
of time runs first, one after the other; then all else, two at once, the longest first. Outcomes go
to docs/reliability.json, row by row, and from there into the table of docs/reliability.md. The exit
status is 0 if every row holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import Any

from tests.draws import NIGHT
from tests.trust.page import (
    AT_ONCE,
    expected_seconds,
    machine,
    read_results,
    said_of_time,
    write_result,
)
from tests.trust.row import ALONE, BESIDE, Row
from tests.trust.rows import ROWS

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]


def run_part(row: Row, tests: tuple[str, ...]) -> Result:
    """Its output is shown if it does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        outcome, output = Path(folder, "outcome.json"), Path(folder, "output")
        plugin = ("-p", "tests.trust.outcome", "--outcome", str(outcome))
        left = [f"--deselect={test}" for test in row.other_rows]
        size = ("-m", "", f"--hypothesis-profile={NIGHT}")  # of every test, and in full
        command = [sys.executable, "-m", "pytest", *size, *plugin, *left, *tests]
        began = time.monotonic()
        with output.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        found = json.loads(outcome.read_text()) if outcome.exists() else {"failed": ["(no run)"]}
        holds = process.returncode == 0 and not found["failed"] and found["passed"] > 0
        if not holds:
            sys.stdout.write(output.read_text())
    return {
        "holds": holds, "seconds": round(seconds), "cpu_seconds": round(used[0] + used[1]),
        "date": date.today().isoformat(), "machine": machine(), **found,
    }  # fmt: skip


def joined(parts: dict[str, Result]) -> Result:
    """A row's result, of those of its parts by how they were run."""
    whole: Result = {}
    for part in parts.values():
        for name, value in part.items():
            if name not in whole or isinstance(value, str):
                whole[name] = value
            elif name == "holds":
                whole[name] = whole[name] and value
            else:
                whole[name] = whole[name] | value if name == "figures" else whole[name] + value
    return whole | {"parts": {how: part["seconds"] for how, part in parts.items()}}


def run_rows(rows: Iterable[Row]) -> Iterator[tuple[Row, Result]]:
    """Each as soon as its last part has ended."""
    rows, expected = list(rows), expected_seconds(read_results())
    found: dict[int, dict[str, Result]] = {row.number: {} for row in rows}

    def ended(row: Row, how: str, result: Result) -> Iterator[tuple[Row, Result]]:
        found[row.number][how] = result
        if len(found[row.number]) == len(row.parts):
            yield row, joined(found[row.number])

    for row in rows:
        if ALONE in row.parts:
            yield from ended(row, ALONE, run_part(row, row.parts[ALONE]))
    others = sorted(
        (row for row in rows if BESIDE in row.parts),
        key=lambda row: expected.get((row.number, BESIDE), 0),
        reverse=True,
    )
    with ThreadPoolExecutor(AT_ONCE) as lanes:
        under_way = {lanes.submit(run_part, row, row.parts[BESIDE]): row for row in others}
        for done in as_completed(under_way):
            yield from ended(under_way[done], BESIDE, done.result())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, help="numbers; all without")
    wanted = parser.parse_args().rows
    rows = [row for row in ROWS if not wanted or row.number in wanted]
    broken: list[int] = []
    began = time.monotonic()
    print(f"{len(rows)} rows; expected: {said_of_time(rows, read_results())}", flush=True)
    for row, result in run_rows(rows):
        write_result(row.number, result)
        said = "holds" if result["holds"] else "DOES NOT HOLD"
        print(
            f"row {row.number} {said} after {result['seconds']} s ({row.title}, {row.size}): "
            f"{result.get('figures')}",
            flush=True,
        )
        broken += [] if result["holds"] else [row.number]
    print(f"{time.monotonic() - began:.0f} s; rows that do not hold: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
