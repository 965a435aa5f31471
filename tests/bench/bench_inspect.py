"""What looking inside costs the streams that run beside it: inter-token times, and a chunk's.

    python -m tests.bench.bench_inspect

Eight streams decode while one text after the other is looked into. The engine runs in this process,
with the default model's shape and random weights. Promised: the p99 of the time between two tokens
of a stream rises by no more than one chunk costs by itself. The last line is JSON.
"""

import json
import statistics

from server.engine.config import default_batched_tokens
from server.engine.core import EngineCore
from server.engine.inspection import InspectRequest
from tests.bench.bench_chunked_prefill import NUM_STREAMS, p99, request, timed_step
from tests.bench.dummy_engine import dummy_core

NUM_STEPS = 120
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


def steps(core: EngineCore) -> list[float]:
    found = [timed_step(core)[0] for _ in range(NUM_STEPS)]
    core.traces()
    return found


def main() -> None:
    chunk_tokens = default_batched_tokens("cpu", 64)
    core = dummy_core(max_model_len=4096, max_num_batched_tokens=chunk_tokens)
    core.add(request("alone", 4 * chunk_tokens, 1))
    chunk = max(timed_step(core)[0] for _ in range(4))
    streams = {f"stream {i}" for i in range(NUM_STREAMS)}
    for name in sorted(streams):
        core.add(request(name, 32, 10_000))
    while timed_step(core)[1] != streams:
        pass
    quiet = steps(core)
    for i in range(1 + NUM_STEPS // 30):
        core.inspect(look(f"look {i}"))
    busy = steps(core)
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
