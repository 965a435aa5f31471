"""Run the plan, or some of its rows, at full size, and write what came of it.

    make trust                      all rows; docs/reliability.md says how long they take
    make trust ROWS="5 10"          these
    python -m tests.trust.run       the same

Each row is a run of pytest of its own. Those with limits of time run first, one after the other;
then the others, two at once, the longest first. Outcomes go to docs/reliability.json, row by row,
and from there into the table of docs/reliability.md. The exit status is 0 if every row holds.
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

from tests.trust.page import AT_ONCE, machine, read_results, write_result
from tests.trust.row import Row
from tests.trust.rows import ROWS

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]


def run_row(row: Row) -> Result:
    """Its output is shown if it does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        outcome, output = Path(folder, "outcome.json"), Path(folder, "output")
        plugin = ("-p", "tests.trust.outcome", "--outcome", str(outcome))
        left = [f"--deselect={test}" for test in row.other_rows]
        command = [sys.executable, "-m", "pytest", "-m", "", *plugin, *left, *row.full]
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


def run_rows(rows: Iterable[Row]) -> Iterator[tuple[Row, Result]]:
    rows, before = list(rows), read_results()
    for row in rows:
        if row.by_the_clock:
            yield row, run_row(row)

    def seconds(row: Row) -> int:
        """That it took the last time."""
        return int(before.get(str(row.number), {"seconds": 0})["seconds"])

    others = sorted((row for row in rows if not row.by_the_clock), key=seconds, reverse=True)
    with ThreadPoolExecutor(AT_ONCE) as lanes:
        under_way = {lanes.submit(run_row, row): row for row in others}
        for done in as_completed(under_way):
            yield under_way[done], done.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, help="numbers; all without")
    wanted = parser.parse_args().rows
    broken: list[int] = []
    began = time.monotonic()
    for row, result in run_rows(row for row in ROWS if not wanted or row.number in wanted):
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
