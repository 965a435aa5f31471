"""One part of `run.py` in a process of its own, which leaves what it has found in a file.

    python3 -m tests.gpu.part PARTS NAME FILE [--parent PID]

A context of CUDA that has met an illegal address raises at every later call, and a kernel may end
the process itself: neither shall take another part with it. A part saves what it knows after each
thing that it has found out, and says what it begins, so that the process after a dead one goes on
behind what killed it. PARTS is the module whose `facts` and `parts` these are; with `--parent` it
does nothing if that process is not its parent any more.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from thirdeye.server.engine.process.spawn import bind_to_parent

DONE, FAILED, GO_ON = 0, 1, 75  # exit status; GO_ON: the rest wants a fresh process
MOST_LETTERS = 500  # of an error
KEPT = ("facts", "found", "running", "error", "compiled")


class ContextLost(Exception):
    """Nothing more can be had of this process's device."""


@dataclass(slots=True)
class Findings:
    """What a part knows, in a file that is always whole."""

    path: Path
    facts: dict[str, Any]
    found: Any = None
    running: str | None = None  # what would be to blame if the process ended now
    error: str | None = None
    compiled: dict[str, float] | None = None  # kernels: found in triton's cache, compiled, seconds

    def save(self, found: Any, running: str | None = None) -> None:
        self.found, self.running = found, running
        self.write()

    def write(self) -> None:
        said = {name: getattr(self, name) for name in KEPT}
        write_whole(self.path, json.dumps(said))

    @classmethod
    def read(cls, path: Path) -> "Findings":
        """Nothing, if nothing was left."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path, {})


Work = Callable[[Findings], None]


def write_whole(path: Path, text: str) -> None:
    """Who reads it meanwhile, or finds it after a kill, has the text before or this."""
    aside = path.with_suffix(".part")
    aside.write_text(text)
    os.replace(aside, path)


@contextmanager
def counting(findings: Findings) -> Iterator[None]:
    """What is compiled meanwhile in this process, and what is not, as it was brought along."""
    try:
        from triton import knobs
    except ImportError:
        yield
        return
    findings.compiled = findings.compiled or {"found": 0, "compiled": 0, "seconds": 0.0}
    counted = findings.compiled

    def note(*, times: Any, cache_hit: bool, **_: Any) -> None:
        counted["found" if cache_hit else "compiled"] += 1
        counted["seconds"] += times.total / 1e6

    with knobs.compilation.scope():
        knobs.compilation.listener = note
        yield


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:MOST_LETTERS]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("module", "name", "file"):
        parser.add_argument(name)
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(arguments)
    if options.parent not in (None, os.getppid()):
        return FAILED  # it ended before this process was bound to its life
    findings = Findings.read(Path(options.file))
    try:
        module = import_module(options.module)
        findings.facts = module.facts()
        with counting(findings):
            module.parts()[options.name](findings)
    except ContextLost:
        return GO_ON
    except Exception as error:  # one broken part is its own matter
        traceback.print_exc()
        findings.error = describe(error)
        return FAILED
    finally:
        findings.write()
    return DONE


if __name__ == "__main__":
    bind_to_parent()
    sys.exit(import_module("tests.gpu.part").main())  # whose classes the parts raise
