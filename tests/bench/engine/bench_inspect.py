"""What looking inside costs the streams that run beside it: inter-token times, and a chunk's.

    python -m tests.bench.engine.bench_inspect

Eight streams decode while one text after the other is looked into. The engine runs in this process,
with the default model's shape and random weights. Promised: the p99 of the time between two tokens
of a stream rises by no more than one chunk costs by itself. Milliseconds of one thread, by the
wall's clock and in CPU time, which other programs on the machine change less. Last line: JSON.
"""

import json
import statistics
import time

import torch

from tests.bench.engine.bench_chunked_prefill import NUM_STREAMS, p99, request
from tests.bench.engine.dummy_engine import dummy_core
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.engine_config import default_batched_tokens
from thirdeye.server.engine.interface.trace import TraceRequest

NUM_STEPS = 100
TEXT_TOKENS = 64


def look(name: str) -> TraceRequest:
    return TraceRequest(
        request_id=name,
        token_ids=request(name, TEXT_TOKENS, 1).prompt_token_ids,
        layers=list(range(30)),
        arrays=["pattern", "norms"],
        has_lens=True,
        lens_positions=list(range(TEXT_TOKENS)),
        num_top=10,
    )


Times = tuple[float, float]  # wall, CPU: milliseconds
Numbers = dict[str, float]


def timed_step(core: EngineCore) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    core.step()
    core.traces()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def numbers(chunks: list[Times], quiet: list[Times], busy: list[Times], clock: int) -> Numbers:
    before, beside = ([step[clock] for step in steps] for steps in (quiet, busy))
    found = {
        "chunk": max(chunk[clock] for chunk in chunks),
        "quiet_p50": statistics.median(before),
        "quiet_p99": p99(before),
        "busy_p50": statistics.median(beside),
        "busy_p99": p99(beside),
        "rise_p99": p99(beside) - p99(before),
    }
    return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    chunk_tokens = default_batched_tokens("cpu", 64)
    core = dummy_core(max_model_len=4096, max_num_batched_tokens=chunk_tokens)
    core.add(request("alone", 2 * chunk_tokens, 1))
    chunks = [timed_step(core) for _ in range(2)]
    for i in range(NUM_STREAMS):
        core.add(request(f"stream {i}", 32, 10_000))
    for _ in range(5):
        timed_step(core)  # their prompts, and what is done once
    quiet = [timed_step(core) for _ in range(NUM_STEPS)]
    for i in range(1 + NUM_STEPS // 60):
        core.inspect(look(f"look {i}"))
    busy = [timed_step(core) for _ in range(NUM_STEPS)]
    wall, cpu = (numbers(chunks, quiet, busy, clock) for clock in (0, 1))
    shown = {"benchmark": "inspect", "streams": NUM_STREAMS, "chunk_tokens": chunk_tokens}
    print(json.dumps({**shown, "wall_ms": wall, "cpu_ms": cpu}))


if __name__ == "__main__":
    main()
