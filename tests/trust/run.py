"""Run the plan, or some of its rows, at full size, and write what came of it.

    make trust                      all rows: under an hour on two cores that do nothing else
    make trust ROWS="5 10"          these
    python -m tests.trust.run       the same

Each row is a run of pytest of its own. Outcomes go to docs/reliability.json, row by row, and from
there into the table of docs/reliability.md. The exit status is 0 if every row holds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from tests.trust.page import machine, write_result
from tests.trust.row import Row
from tests.trust.rows import ROWS

ROOT = Path(__file__).parents[2]


def run_row(row: Row) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder, "outcome.json")
        plugin = ("-p", "tests.trust.outcome", "--outcome", str(outcome))
        command = [sys.executable, "-m", "pytest", "-m", "", *plugin, *row.full]
        began = time.monotonic()
        status = subprocess.run(command, cwd=ROOT).returncode
        seconds = time.monotonic() - began
        found = json.loads(outcome.read_text()) if outcome.exists() else {"failed": ["(no run)"]}
    holds = status == 0 and not found["failed"] and found["passed"] > 0
    return {
        "holds": holds, "seconds": round(seconds), "date": date.today().isoformat(),
        "machine": machine(), **found,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, help="numbers; all without")
    wanted = parser.parse_args().rows
    broken: list[int] = []
    for row in ROWS:
        if wanted and row.number not in wanted:
            continue
        print(f"row {row.number}: {row.title}, {row.size}", flush=True)
        result = run_row(row)
        write_result(row.number, result)
        said = "holds" if result["holds"] else "DOES NOT HOLD"
        print(f"row {row.number} {said} after {result['seconds']} s: {result.get('figures')}")
        broken += [] if result["holds"] else [row.number]
    print(f"rows that do not hold: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
