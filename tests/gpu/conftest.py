"""Tests that need a GPU: skipped, with the reason, where torch sees none.

Not in a process that has triton's interpreter on, which the suite's own conftest asks for: run them
by `python -m tests.gpu.run`, or with TRITON_INTERPRET=0.
"""

import os

import pytest
import torch


def reason_not_to_run() -> str:
    if not torch.cuda.is_available():
        return "this torch build sees no GPU"
    if os.environ.get("TRITON_INTERPRET") == "1":  # noqa: TID251  # triton's own switch
        return "triton's interpreter is on: set TRITON_INTERPRET=0"
    return ""


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    if reason := reason_not_to_run():
        pytest.skip(reason)
    return torch.device("cuda")
