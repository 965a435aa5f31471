"""Runs a module of this folder where triton's interpreter, which the suite has on, is off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: str) -> Any:
    """`python -m MODULE ARGUMENTS`: the line of JSON that it says last."""
    pytest.importorskip("triton", reason="no triton: nothing can be asked of its driver")
    environment = {**os.environ, "TRITON_INTERPRET": "0"}  # noqa: TID251 (a child wants a whole one)
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
