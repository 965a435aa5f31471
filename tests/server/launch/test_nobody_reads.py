"""Whoever read a server's lines may leave: that ends no server, and no cluster."""

import subprocess
import sys

SPEAKS = """
import sys
from thirdeye.server.launch.console import LoadingProgress, say, warn
sys.stdin.read()
for _ in range(2):
    say("a line")
    warn("another")
with LoadingProgress("m") as told:
    told("weights", 1, 1 << 30)
    told("weights", 1 << 29, 1 << 30)
sys.exit(7)
"""


def test_lines_that_nobody_reads_are_lost_and_nothing_else() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SPEAKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait() == 7
