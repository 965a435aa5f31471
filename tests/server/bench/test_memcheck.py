"""What compute-sanitizer sees is told, whatever becomes of the process that it watches."""

from pathlib import Path

import pytest

from tests.gpu import memcheck, part
from tests.gpu import parts as gpu_parts
from tests.gpu.checks.all_checks import checks
from tests.gpu.tables import to_markdown
from tests.server.bench.test_gpu_run import REPORT

TOOL = """#!/usr/bin/env python3
import json, sys
log, file = sys.argv[sys.argv.index("--log-file") + 1], sys.argv[-1]
assert "tests.gpu.memcheck" in sys.argv
with open(log, "w") as into:
    for _ in range(2):
        print("========= Invalid __global__ read of size 16 bytes", file=into)
        print("=========     at paged_attention_kernel+0x1b0", file=into)
    print("========= ERROR SUMMARY: 2 errors", file=into)
with open(file, "w") as into:
    found = {"passed": ["norm"], "failed": {}}
    json.dump({"facts": {}, "found": found, "running": "heads", "error": None}, into)
sys.exit(1)
"""


def test_every_access_that_was_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the check that was running when the process went away; and as lines of the report."""
    tool = tmp_path / memcheck.TOOL
    tool.write_text(TOOL)
    tool.chmod(0o755)
    monkeypatch.setattr(memcheck, "tool", lambda: str(tool))
    findings = part.Findings(tmp_path / "part.json", {})
    memcheck.memcheck(findings)
    assert findings.found == {
        "passed": ["norm"],
        "failed": {
            "access 0": "Invalid __global__ read of size 16 bytes at paged_attention_kernel+0x1b0",
            "heads": "exit status 1",
        },
        "ending": "exit status 1",
    }
    told = to_markdown(REPORT | {"parts": {"memcheck": findings.found}})
    assert "Every access watched: 1 passed, 2 failed (exit status 1)." in told
    assert "* heads: exit status 1" in told


def test_what_is_watched_is_among_the_checks() -> None:
    """By name: one that was renamed would be watched no more."""
    pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be named")
    assert set(memcheck.CHECKS) <= set(dict(checks()))
    assert "memcheck" in dict(gpu_parts.on_gpu())


def test_kernels_that_are_compiled_are_counted(tmp_path: Path) -> None:
    """In triton's own words: whether a cache that was brought along is the right one."""
    knobs = pytest.importorskip("triton", reason="no triton: nothing is compiled").knobs
    findings = part.Findings(tmp_path / "part.json", {})
    before = knobs.compilation.listener
    with part.counting(findings):
        took = knobs.CompileTimes(500_000, [("ptx", 1_000_000)], 500_000)
        for is_found in (True, False, True):
            knobs.compilation.listener(
                src=None, metadata={}, metadata_group={}, times=took, cache_hit=is_found
            )
    assert knobs.compilation.listener is before
    assert findings.compiled == {"found": 2, "compiled": 1, "seconds": 6.0}
    told = to_markdown(REPORT | {"parts": {}, "compiled": {"checks": findings.compiled}})
    assert "| checks | 2 | 1 | 6 |" in told
