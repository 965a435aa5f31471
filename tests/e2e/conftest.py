"""Servers that the end-to-end tests share: one over the default model, one over a tiny one."""

import asyncio
import sys

import pytest

from tests.e2e.live import LiveServer
from tests.e2e.resident import DefaultServer, after_an_answer
from tests.tiny import tiny_llama


@pytest.fixture(scope="session")
def real_server(default_model):
    """`thirdeye serve` in exact fp32: what transformers can be the oracle of."""
    server = LiveServer(["--dtype", "float32", "--quantize", "none"]).start()
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture(scope="session")
def default_server(default_model):
    """`thirdeye serve` with nothing said, as a newcomer has it: 8-bit weights, where they run."""
    server = LiveServer([]).start()
    yield DefaultServer(server, after_an_answer(server) if sys.platform == "linux" else None)
    assert server.stop() == 0, server.output


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory):
    """A random two-layer chat model that never ends by itself, behind the same command.

    Its cache is soon full, from when on no memory is new; long prompts take several steps, and who
    does not read is left after two seconds.
    """
    path = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(path)
    args = ["--served-model-name", "tiny", "--max-num-seqs", "8", "--kv-memory", "0.002"]
    args += ["--max-num-batched-tokens", "32", "--send-timeout", "2"]
    server = LiveServer([str(path), *args]).start()
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture
def run():
    """Run a coroutine to its end."""
    return asyncio.run
