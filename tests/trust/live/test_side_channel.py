"""Does the time to the first token tell one key what another asked? Its own questions, yes."""

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama

PROBES = 100  # of each kind
CONTEXT = 4096


def auc(hits: list[float], misses: list[float]) -> float:
    """How often a miss takes longer than a hit."""
    pairs = itertools.product(hits, misses)
    return sum((hit < miss) + 0.5 * (hit == miss) for hit, miss in pairs) / len(hits) / len(misses)


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_the_prefix_cache_tells_no_other_key(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tiny_llama(tmp_path, context=CONTEXT)
    keys = tmp_path / "keys"
    keys.write_text("alice use key-of-alice-0123456789\nbob use key-of-bob-0123456789\n")
    args = ["--served-model-name", "tiny", "--api-key-file", str(keys), "--log-level", "error"]
    server = LiveServer([str(tmp_path), *args]).start()
    chance = random.Random(1)

    def ask(client: httpx.Client, name: str, prompt: list[int]) -> tuple[float, int]:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
        headers = {"authorization": f"Bearer key-of-{name}-0123456789"}
        began = time.perf_counter()
        answer = client.post(server.url + "/v1/completions", json=body, headers=headers)
        seconds = time.perf_counter() - began
        return seconds, answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    times: dict[str, list[float]] = {"across": [], "unknown": [], "within": []}
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            for _ in range(PROBES):
                secret, other = ([chance.randrange(3, 500) for _ in range(2000)] for _ in range(2))
                ask(client, "alice", secret)
                found = {
                    "across": ask(client, "bob", secret),
                    "unknown": ask(client, "bob", other),
                    "within": ask(client, "alice", secret),
                }
                for kind, (seconds, _) in found.items():
                    times[kind].append(seconds)
                assert found["across"][1] == found["unknown"][1] == 0
                assert found["within"][1] >= 1984
    finally:
        assert server.stop() == 0, server.output
    across, within = auc(times["across"], times["unknown"]), auc(times["within"], times["unknown"])
    record_property("auc_across_keys", round(across, 3))
    record_property("auc_within_one", round(within, 3))
    assert abs(across - 0.5) < 0.12, "three standard deviations of so many probes"
    assert within > 0.95
