"""A process that has imported what modules of `tests.fake_gpu` do, and forks for each of them.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.children.forking

A line of JSON in: a module, its arguments, its environment. A line out: how it ended, what it said.
"""

import gc
import json
import os
import runpy
import sys
import traceback
from tempfile import TemporaryFile
from typing import Any, NoReturn

gc.disable()  # what is imported stays: whoever looks for garbage in it finds none

from tests.fake_gpu import engine  # noqa: E402  # behind what it is for

__all__ = ["engine"]  # brings torch, triton, model and engine: two seconds and a half


def main() -> None:
    gc.freeze()
    gc.enable()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    with TemporaryFile("w+") as out, TemporaryFile("w+") as error:
        pid = os.fork()
        if pid == 0:
            for number, file in ((1, out), (2, error)):
                os.dup2(file.fileno(), number)
            run(asked)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        error.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read(), "err": error.read()}


def run(asked: dict[str, Any]) -> NoReturn:
    """As `python -m` would, in this process, which ends with it."""
    os.environ.clear()  # noqa: TID251  # the tests' own
    os.environ.update(asked["environment"])  # noqa: TID251
    sys.argv = [asked["module"], *asked["arguments"]]
    code = 0
    try:
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
