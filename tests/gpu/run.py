"""Build, check and time all of the GPU's path in one run.

    python3 -m tests.gpu.run --out DIR [--only PART ...] [--seconds 230]

Needs the runtime's packages alone, no network, no weights and no installation: the tree is enough.
Each part is a process of its own (`part.py`), so one that is killed, hangs or loses its device
leaves the others as they are. In DIR, after each of them: `report.json` and `gpu.md`, the tables of
docs/gpu.md; the last line printed is one of JSON. On a CPU every part runs at tiny sizes, which
says that the script works and nothing about speed.

Exit status: 0 if all that ran is well, 1 if a check or a part failed, 2 for a part that is unknown.
What cannot run there (no FlashInfer, no time left) is left out with its reason and is no failure.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.gpu.part import GO_ON, Findings, write_whole
from tests.gpu.tables import to_markdown

SECONDS = 230.0
PART_SECONDS = 150.0  # of one process at most: a hang must not cost the others
GRACE = 30.0  # for what was begun in time
ROOT = Path(__file__).resolve().parents[2]
NO_TIME = "no time left"


@dataclass
class Report:
    """What has been found out so far, and the processes that find out more."""

    out: Path
    module: str
    seconds: float
    commit: str
    started: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    compiled: dict[str, Any] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    def part(self, name: str) -> None:
        """Do it if there is time. A part that says what killed its process goes on in another."""
        path = self.out / "part.json"
        path.unlink(missing_ok=True)
        reason = None
        while self.spent <= self.seconds:
            reason = self._run(name, path)
            findings = Findings.read(path)
            if findings.running is not None:  # that is to blame, not the part
                findings.found["failed"][findings.running] = reason or "the process went away"
                findings.save(findings.found)
            elif reason != GO_ON_REASON:
                break
        else:
            self.left_out[name] = f"{NO_TIME} after {self.spent:.0f} s"
        self._take(name, Findings.read(path), reason)
        path.unlink(missing_ok=True)
        self.write()
        why = self.left_out.get(name, "")
        print(f"{self.spent:6.1f} s  {name}  {why}", flush=True)

    def _run(self, name: str, path: Path) -> str | None:
        """One process -> why it did not end well, or None."""
        most = min(PART_SECONDS, self.seconds + GRACE - self.spent)
        command = [sys.executable, "-m", "tests.gpu.part", self.module, name, str(path)]
        command += ["--parent", str(os.getpid())]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            status = process.wait(most)
        except subprocess.TimeoutExpired:
            return f"ended after {most:.0f} s"
        finally:
            end_all_of(process)
        if status < 0:
            return f"the process was ended by {signal.Signals(-status).name}"
        if status == GO_ON:
            return GO_ON_REASON
        return None if status == 0 else Findings.read(path).error or f"exit status {status}"

    def _take(self, name: str, findings: Findings, reason: str | None) -> None:
        self.facts |= findings.facts
        if findings.compiled is not None:
            self.compiled[name] = findings.compiled
        if findings.found is not None:
            self.parts[name] = findings.found
        if reason not in (None, GO_ON_REASON):
            self.left_out[name] = str(reason)
            self.failed.append(name)
        if isinstance(findings.found, dict) and findings.found.get("failed"):
            self.failed.append(name)

    def summary(self) -> dict[str, Any]:
        return {
            "benchmark": "gpu",
            "date": time.strftime("%Y-%m-%d"),
            "commit": self.commit,
            "command": "python3 -m tests.gpu.run",
            **self.facts,
            "parts": self.parts,
            "compiled": self.compiled,
            "left_out": self.left_out,
            "seconds": self.spent,
        }

    def write(self) -> None:
        summary = self.summary()
        write_whole(self.out / "report.json", json.dumps(summary, indent=1))
        write_whole(self.out / "gpu.md", to_markdown(summary))


def end_all_of(process: subprocess.Popen[bytes]) -> None:
    """It, and what it has started: a server, or a tool that watches it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


GO_ON_REASON = "the rest wants a fresh process"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="begin nothing after so long"
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help="these, in this order")
    parser.add_argument("--commit", default=None, help="what is measured; else git is asked")
    parser.add_argument("--parts", default="tests.gpu.parts", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    module = import_module(options.parts)
    absent = module.absent()
    known = list(dict.fromkeys([*module.parts(), *absent]))
    if unknown := [name for name in options.only or () if name not in known]:
        quoted = ", ".join(map(repr, known))
        parser.error(f"'--only' must name parts out of {quoted}; got {unknown[0]!r}.")
    options.out.mkdir(parents=True, exist_ok=True)
    commit = options.commit or checked_out()
    report = Report(options.out, options.parts, options.seconds, commit)
    report.facts, report.left_out = module.facts(), absent
    report.write()
    for name in options.only or known:
        if name not in absent:
            report.part(name)
    print(json.dumps(report.summary()))
    return 1 if report.failed else 0


def checked_out() -> str:
    """The commit this is, if git knows: on a lent machine there may be neither."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
