"""The processes that follow callers' grammars: there while an answer runs, gone with the engine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import children, is_running, seconds_until
from tests.tiny import tiny_llama

BODY = {
    "model": "tiny", "prompt": "On", "max_tokens": 8000, "stream": True, "min_tokens": 8000,
    "structured_outputs": {"grammar": "start: /[a-z]+/"},
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    tiny_llama(tmp_path, context=8192)
    server = LiveServer([str(tmp_path), "--served-model-name", "tiny"])
    yield server.start()
    server.kill()


def below(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *below(child))]


def test_they_end_with_the_engine(server: LiveServer) -> None:
    """However it ends: it tells them nothing."""
    url = server.url + "/v1/completions"
    with httpx.stream("POST", url, json=BODY, trust_env=False, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        (engine,) = server.engines()
        followers = below(engine)
        assert len(followers) == 2, "what forks, and the one of this answer"
        os.kill(engine, signal.SIGKILL)
    seconds_until(lambda: not any(map(is_running, followers)))
