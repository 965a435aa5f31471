"""Does the time to the first token tell one key what another asked? Its own questions, yes.

The time is read twice: by the clock, as a caller sees it, and as what the server's processes had of
the processors, which others on the machine do not blur. The control, that it does tell within one
key, is of the second: what is there to be read, whoever else computes.
"""

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.live import LiveServer
from tests.e2e.procfs import busy_seconds
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

    def busy() -> float:
        return sum(map(busy_seconds, (server.process.pid, *server.engines())))

    def ask(client: httpx.Client, name: str, prompt: list[int]) -> tuple[float, float, int]:
        """Seconds by the clock, and of the processors; tokens that were found."""
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
        headers = {"authorization": f"Bearer key-of-{name}-0123456789"}
        worked, began = busy(), time.perf_counter()
        answer = client.post(server.url + "/v1/completions", json=body, headers=headers)
        seconds = time.perf_counter() - began
        worked = busy() - worked
        return seconds, worked, answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    times: dict[str, list[float]] = {"across": [], "unknown": [], "within": []}
    work: dict[str, list[float]] = {"across": [], "unknown": [], "within": []}
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            for _ in range(PROBES):
                secret, other = ([chance.randrange(3, 500) for _ in range(2000)] for _ in range(2))
                ask(client, "alice", secret)
                kinds = {"across": ("bob", secret), "unknown": ("bob", other)}
                kinds["within"] = ("alice", secret)
                num_found: dict[str, int] = {}
                for kind in chance.sample(list(kinds), len(kinds)):  # none is always the first
                    seconds, worked, num_found[kind] = ask(client, *kinds[kind])
                    times[kind].append(seconds)
                    work[kind].append(worked)
                assert num_found["across"] == num_found["unknown"] == 0
                assert num_found["within"] >= 1984
    finally:
        assert server.stop() == 0, server.output
    found = {}
    for name, of in (("clock", times), ("work", work)):
        for kind, words in (("across", "across_keys"), ("within", "within_one")):
            found[kind, name] = auc(of[kind], of["unknown"])
            record_property(f"auc_{words}_by_{name}", round(found[kind, name], 3))
    for name in ("clock", "work"):
        assert abs(found["across", name] - 0.5) < 0.12, (
            "three standard deviations of so many probes"
        )
    assert found["within", "work"] > 0.95, found
