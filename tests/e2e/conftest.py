"""Servers that the end-to-end tests share: one over the default model, one over a tiny one."""

import asyncio

import pytest

from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama


@pytest.fixture(scope="session")
def real_server(default_model):
    """`thirdeye serve` in exact fp32: what transformers can be the oracle of."""
    server = LiveServer(["--dtype", "float32", "--quantize", "none"]).start()
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory):
    """A random two-layer chat model that never ends by itself, behind the same command."""
    path = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(path)
    server = LiveServer([str(path), "--served-model-name", "tiny", "--max-num-seqs", "8"]).start()
    yield server
    assert server.stop() == 0, server.output


@pytest.fixture
def run():
    """Run a coroutine to its end."""
    return asyncio.run
