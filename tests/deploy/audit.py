"""Ask the public database of holes (OSV) about every locked version.

make audit      python -m tests.deploy.audit PIP_AUDIT, where that is the program of this name
make audit OSV_URL=https://mirror.example/v1/query      where another answers in its place

Status 1 if there is a hole. Where nobody can be asked it says so, with the way out, and ends with
0: no network is no hole, and `test_lock.py` has a list of its own.
"""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.deploy.lock import LOCK, TORCH_LOCK

OSV_URL = "https://api.osv.dev/v1/query"
FOUND = "known vulnerabilit"  # of pip-audit's last line; what else ends it with 1 is no finding


def audit(program: str, lock: Path, osv_url: str = OSV_URL) -> int:
    """The exit status, having said what was found."""
    command = [program, "--vulnerability-service", "osv", "--osv-url", osv_url]
    command += ["--disable-pip", "--require-hashes"]
    command += ["--strict", "--progress-spinner", "off", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        print(f"{lock.name}: no known hole")
        return 0
    if FOUND in done.stderr:
        print(f"{lock.name}: {done.stderr.strip()}\n{done.stdout.strip()}")
        return 1
    why = (done.stderr.strip().splitlines() or ["without a word"])[-1].partition("(")[0]
    print(
        f"WARNING: {lock.name} was NOT audited: {urlsplit(osv_url).hostname} did not answer "
        f"({why[:80]}). Run it where that is in reach, or 'make audit OSV_URL=URL' with a mirror; "
        "holes known by hand are in tests/deploy/known_holes.py"
    )
    return 0


if __name__ == "__main__":
    program, *url = sys.argv[1:]
    sys.exit(max(audit(program, lock, *url) for lock in (LOCK, TORCH_LOCK)))
