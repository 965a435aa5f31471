"""Runs a module of `tests.fake_gpu` where triton's interpreter, which the suite has on, is off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FORKING = "tests.fake_gpu.children.forking"


class Child:
    """Started when it is first asked: a process that forks for each module."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, module: str, *arguments: str) -> Any:
        """`python -m MODULE ARGUMENTS`: the line of JSON that it says last."""
        environment = {**os.environ, "TRITON_INTERPRET": "0"}  # noqa: TID251 (it wants a whole one)
        process = self._process or self._start(environment)
        asked = {"module": module, "arguments": arguments, "environment": environment}
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            done = json.loads(process.stdout.readline())
        except (
            BaseException
        ):  # of the suite's time limit, too: nobody reads a late answer as its own
            self.close()
            raise
        assert done["code"] == 0, done["err"][-3000:]
        return json.loads(done["out"].splitlines()[-1])

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", FORKING],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self._process

    def close(self) -> None:
        """With whatever it has forked."""
        if self._process is None:
            return
        process, self._process = self._process, None
        os.killpg(process.pid, 9)
        process.communicate()
