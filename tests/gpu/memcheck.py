"""The checks of single kernels once more, every access of theirs watched by compute-sanitizer.

What reads beyond its tensors may well find the right numbers there. The tool runs `part.py` with
the checks of this module, each tensor in memory of its own (torch's allocator gives out pieces of
large ones, in which no neighbour is foreign), and writes down what it sees. A kernel takes ten
times as long and more, so these are few, the widest first, and those that capture graphs are not
among them: a graph wants torch's allocator.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.gpu.part import GO_ON, Findings, Work
from tests.gpu.parts import facts as facts
from tests.gpu.parts import run_checks

TOOL, ELSEWHERE = "compute-sanitizer", "/usr/local/cuda/bin"
SECONDS = 110.0  # of all; the part itself has somewhat longer
SEEN = re.compile(r"=+ (Invalid|Misaligned|Out-of-range|Program hit).*")
CHECKS = (
    "attention 1 of 700, torch.bfloat16 cache",
    "attention 33 of 700, torch.bfloat16 cache",
    "attention 1 of 700, torch.float8_e4m3fn cache",
    "few rows, twins",
    "new keys in attention torch.bfloat16",
    "heads torch.bfloat16",
    "norm torch.bfloat16",
    "fp8 cache writes",
    "int4 product of 17 rows",
    "int8 product of 8 rows",
    "fp8 product of 17 rows",
    "activations to fp8",
    "noise of draws",
    "adapters torch.bfloat16",
    "states torch.bfloat16",
)


def parts() -> dict[str, Work]:
    """The one part of the process that is watched."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {"checks": lambda findings: run_checks(device, findings, CHECKS)}


def tool() -> str | None:
    return shutil.which(TOOL) or shutil.which(TOOL, path=ELSEWHERE)


def memcheck(findings: Findings) -> None:
    """What passed, what failed, and what the tool has seen; kept also if time runs out."""
    found = tool()
    assert found is not None, f"{TOOL} is not installed"
    inner, log = findings.path.with_name("memcheck.json"), findings.path.with_name("memcheck.log")
    inner.unlink(missing_ok=True)
    command = [
        *(found, "--tool", "memcheck", "--log-file", str(log), "--print-limit", "20"),
        *(sys.executable, "-m", "tests.gpu.part", __name__, "checks", str(inner)),
    ]
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # noqa: TID251 (a child wants a whole one)
    try:
        done = subprocess.run(command, env=environment, timeout=SECONDS, check=False)
        ending = "" if done.returncode in (0, GO_ON) else f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        ending = f"ended after {SECONDS:.0f} s"
    findings.save(told(Findings.read(inner), log, ending))
    inner.unlink(missing_ok=True)


def told(inner: Findings, log: Path, ending: str) -> dict[str, Any]:
    """Checks as `run_checks` has them; what the tool has seen fails under a name of its own."""
    found = dict(inner.found or {"passed": [], "failed": {}})
    failed = dict(found["failed"])
    for number, line in enumerate(dict.fromkeys(seen(log))):
        failed[f"access {number}"] = line
    if inner.running is not None:
        failed[inner.running] = ending or "the process went away"
    elif inner.error is not None:
        failed["the process"] = inner.error
    return found | {"failed": failed, "ending": ending}


def seen(log: Path) -> Iterator[str]:
    """Each access that was wrong, with the kernel that made it."""
    lines = log.read_text().splitlines() if log.exists() else []
    for line, behind in zip(lines, [*lines[1:], ""], strict=True):
        if SEEN.match(line):
            yield f"{line.strip('= ')} {behind.strip('= ')}".strip()
