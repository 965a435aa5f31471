"""Ask the public database of holes (OSV) about every locked version.

make audit      python -m tests.deploy.audit PIP_AUDIT, where that is the program of this name

Status 1 if there is a hole. Where nobody can be asked it says so and ends with 0: no network is no
hole, and `test_lock.py` has a list of its own.
"""

import subprocess
import sys
from pathlib import Path

from tests.deploy.lock import LOCK, TORCH_LOCK

FOUND = "known vulnerabilit"  # of pip-audit's last line; what else ends it with 1 is no finding


def audit(program: str, lock: Path) -> int:
    """The exit status, having said what was found."""
    command = [program, "--vulnerability-service", "osv", "--disable-pip", "--require-hashes"]
    command += ["--strict", "--progress-spinner", "off", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        print(f"{lock.name}: no known hole")
        return 0
    if FOUND in done.stderr:
        print(f"{lock.name}: {done.stderr.strip()}\n{done.stdout.strip()}")
        return 1
    why = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    print(f"WARNING: {lock.name} was NOT audited: nobody could be asked ({why[:200]})")
    return 0


if __name__ == "__main__":
    sys.exit(max(audit(sys.argv[1], lock) for lock in (LOCK, TORCH_LOCK)))
