"""The default model is served in less than a gigabyte: weights once, in few bits, and a bounded
cache."""

import sys
from pathlib import Path

import httpx
import pytest
import torch

from tests.e2e.live import LiveServer
from thirdeye.model.linear.int8 import Int8
from thirdeye.model.placement import Placement
from thirdeye.server.engine.cache.kv_budget import CPU_DEFAULT

MOST = 0.95e9  # bytes of both processes' own, the whole KV cache written
MOST_CODE = 60e6  # of the engine: loading has read 100 MB of it, a step reads a third

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="others do not say what is resident"),
    pytest.mark.skipif(
        not Int8.is_available(Placement(torch.float32, torch.device("cpu"))),
        reason="without 8-bit weights it takes more",
    ),
]


def test_less_than_a_gigabyte(default_model: Path) -> None:
    """With the default cache, as if all of it had been written, which many prompts do in time: it
    is taken by its size, and a small one is there in its place."""
    args = ["--served-model-name", "smollm2", "--kv-memory", "0.01"]
    server = LiveServer([str(default_model), *args]).start()
    try:
        body = {"model": "smollm2", "prompt": "One two", "max_tokens": 4}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        (engine,) = server.children()
        own, code = zip(resident(server.process.pid), resident(engine), strict=True)
    finally:
        assert server.stop() == 0, server.output
    cache = CPU_DEFAULT // 2  # in float16
    assert code[1] < MOST_CODE
    assert sum(own) + cache < MOST


def resident(pid: int) -> tuple[int, int]:
    """Bytes of its own, and of the files that are mapped."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines}
    return sizes["Anonymous:"], sizes["Rss:"] - sizes["Anonymous:"]
