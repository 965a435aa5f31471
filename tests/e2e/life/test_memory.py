"""The default model is served in less than a gigabyte by a build of torch for CPUs: weights once,
in few bits, and a bounded cache. What importing torch takes is measured beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.kernels.llama_file import write_llama_file
from tests.e2e.live import LiveServer
from tests.e2e.resident import DefaultServer, Resident, after_an_answer
from thirdeye.server.engine.cache.kv_budget import CPU_DEFAULT, GIB

MOST = 0.8e9  # bytes of both processes' own, the whole KV cache written, beyond torch's own
MOST_CODE = 40e6  # of the engine: loading has read 70 MB of it and more, a step reads 20
MOST_OF_FILE = 1.05  # of what a file's blocks take in memory, beside what they take in the file
MOST_BESIDE = 25e6  # bytes of an engine's own beyond torch, weights and cache
CACHE = 10_000_000  # bytes of keys and values, all of it
MOST_DATA = 10e6  # of files that the engine maps, beyond what `import torch` alone does

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="others do not say what is resident"),
    pytest.mark.usefixtures("native"),  # without 8-bit weights it takes more
]


def test_less_than_a_gigabyte(default_server: DefaultServer) -> None:
    """With the default cache, as if all of it had been written, which many prompts do in time: it
    is taken by its size, beside the little of it that was."""
    api, engine = default_server.after_an_answer
    cache = CPU_DEFAULT // 2  # in float16
    torch_alone = imported_torch()
    assert engine.code < MOST_CODE
    assert engine.data - torch_alone.data < MOST_DATA
    assert api.own + engine.own + cache - torch_alone.own < MOST


@pytest.mark.prove
def test_weights_are_there_once(default_model: Path, tmp_path: Path) -> None:
    """As blocks in the order in which they are read, and of the file nothing stays: four layers
    more, of random blocks of 4 bits, take what they take in the file; so do embedding and head."""
    files = [write_llama_file(tmp_path / f"{n}.gguf", default_model, num_layers=n) for n in (1, 5)]
    few, many = map(engine_after_an_answer, files)
    sizes = [file.stat().st_size for file in files]
    assert many.own - few.own < MOST_OF_FILE * (sizes[1] - sizes[0] + CACHE)
    beside = few.own - imported_torch().own - sizes[0] - CACHE
    assert beside < MOST_BESIDE


def engine_after_an_answer(model: Path) -> Resident:
    args = ["--served-model-name", "smollm2", "--kv-memory", str(CACHE / GIB)]
    server = LiveServer([str(model), *args]).start()
    try:
        return after_an_answer(server)[1]
    finally:
        assert server.stop() == 0, server.output


def imported_torch() -> Resident:
    """Builds differ: one for CPUs takes 150 MB of its own, one for CUDA 290, and 70 of tables."""
    command = [sys.executable, "-c", "import torch; print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident = Resident.of(process.pid)
        process.communicate("\n")
    assert process.returncode == 0
    return resident
