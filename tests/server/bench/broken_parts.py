"""Parts for `tests.gpu.run` that end in every way a part may end on a GPU."""

import os
import signal
import time
from typing import Any

from tests.gpu.part import ContextLost, Findings, Work

HANG_SECONDS = 60


def facts() -> dict[str, Any]:
    return {"device": "none", "torch": "0", "python": "0"}


def absent() -> dict[str, str]:
    return {"elsewhere": "it is not here"}


def parts() -> dict[str, Work]:
    return {
        "sound": lambda findings: findings.save({"answer": 3}),
        "raising": raising,
        "killed": killed,
        "hanging": hanging,
        "checks": checks,
        "last": lambda findings: findings.save({"answer": 4}),
    }


def raising(findings: Findings) -> None:
    findings.save({"before": 1})
    raise ImportError("no module named flashinfer")


def killed(findings: Findings) -> None:
    findings.save({"before": 2})
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(findings: Findings) -> None:
    findings.save({"before": 3})
    time.sleep(HANG_SECONDS)


def checks(findings: Findings) -> None:
    """One is wrong, one loses the device's context for all behind it, one kills its process."""
    found = findings.found or {"passed": [], "failed": {}, "processes": 0}
    found["processes"] += 1
    for name in ("good", "wrong", "illegal", "fatal", "better"):
        if name in found["passed"] or name in found["failed"]:
            continue
        findings.save(found, running=name)
        if name == "fatal":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name in ("wrong", "illegal"):
            found["failed"][name] = "AssertionError"
        else:
            found["passed"].append(name)
        findings.save(found)
        if name == "illegal":
            raise ContextLost(name)
