"""What looking inside costs the streams that run beside it: inter-token times, and a chunk's.

    python -m tests.bench.bench_inspect

Eight streams decode while one text after the other is looked into. The engine runs in this process,
with the default model's shape and random weights. Promised: the p99 of the time between two tokens
of a stream rises by no more than one chunk costs by itself. Times are CPU milliseconds of one
thread, which other programs on the machine do not change. The last line is JSON.
"""

import json
import statistics
import time

import torch

from server.engine.config import default_batched_tokens
from server.engine.core import EngineCore
from server.engine.inspection import InspectRequest
from tests.bench.bench_chunked_prefill import NUM_STREAMS, p99, request
from tests.bench.dummy_engine import dummy_core

NUM_STEPS = 100
TEXT_TOKENS = 64


def look(name: str) -> InspectRequest:
    return InspectRequest(
        request_id=name,
        token_ids=request(name, TEXT_TOKENS, 1).prompt_token_ids,
        layers=list(range(30)),
        arrays=["pattern", "norms"],
        has_lens=True,
        lens_positions=list(range(TEXT_TOKENS)),
        num_top=10,
    )


def timed_step(core: EngineCore) -> float:
    started = time.process_time()
    core.step()
    core.traces()
    return (time.process_time() - started) * 1000


def main() -> None:
    torch.set_num_threads(1)
    chunk_tokens = default_batched_tokens("cpu", 64)
    core = dummy_core(max_model_len=4096, max_num_batched_tokens=chunk_tokens)
    core.add(request("alone", 2 * chunk_tokens, 1))
    chunk = max(timed_step(core) for _ in range(2))
    for i in range(NUM_STREAMS):
        core.add(request(f"stream {i}", 32, 10_000))
    timed_step(core)  # their prompts
    quiet = [timed_step(core) for _ in range(NUM_STEPS)]
    for i in range(1 + NUM_STEPS // 60):
        core.inspect(look(f"look {i}"))
    busy = [timed_step(core) for _ in range(NUM_STEPS)]
    result = {
        "chunk_tokens": chunk_tokens,
        "chunk_ms": round(chunk, 1),
        "quiet_p50_ms": round(statistics.median(quiet), 1),
        "quiet_p99_ms": round(p99(quiet), 1),
        "busy_p50_ms": round(statistics.median(busy), 1),
        "busy_p99_ms": round(p99(busy), 1),
        "rise_p99_ms": round(p99(busy) - p99(quiet), 1),
    }
    print(json.dumps({"benchmark": "inspect", "streams": NUM_STREAMS, **result}))


if __name__ == "__main__":
    main()
