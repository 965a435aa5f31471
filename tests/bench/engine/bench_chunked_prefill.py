"""What a long prompt costs the streams that run beside it: inter-token times, and one chunk's time.

    python -m tests.bench.engine.bench_chunked_prefill

Eight streams decode; then a prompt of 4,000 tokens arrives. The engine runs in this process, with
the default model's shape and random weights. Promised: the p99 of the time between two tokens of a
stream rises by no more than one chunk costs by itself. A chunk's own cost is measured on the same
prompt without streams. The last line is JSON.
"""

import argparse
import json
import statistics
import time

from tests.bench.engine.dummy_engine import dummy_core
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.engine_config import default_batched_tokens
from thirdeye.server.engine.interface.types import Request, SamplingParams

NUM_STREAMS = 8
PROMPT_TOKENS = 4000
ALONE_STEPS = 30


def request(name: str, num_tokens: int, max_tokens: int) -> Request:
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    seed = sum(name.encode())
    prompt = [(seed * 7919 + i * 31) % 49_000 for i in range(num_tokens)]
    return Request(request_id=name, prompt_token_ids=prompt, sampling=sampling)


def timed_step(core: EngineCore) -> tuple[float, set[str]]:
    """Milliseconds of one step, and who got a token."""
    started = time.perf_counter()
    outputs = core.step()
    elapsed = (time.perf_counter() - started) * 1000
    return elapsed, {output.request_id for output in outputs if output.token_ids}


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def measure(max_num_batched_tokens: int, prompt_tokens: int) -> dict[str, float]:
    core = dummy_core(
        max_model_len=prompt_tokens + 200, max_num_batched_tokens=max_num_batched_tokens
    )
    core.add(request("alone", prompt_tokens, 1))
    chunks = []
    while core.has_work:
        chunks.append(timed_step(core)[0])
    streams = {f"stream {i}" for i in range(NUM_STREAMS)}
    for name in sorted(streams):
        core.add(request(name, 32, 10_000))
    while timed_step(core)[1] != streams:
        pass
    quiet = [timed_step(core)[0] for _ in range(ALONE_STEPS)]
    core.add(request("long", prompt_tokens, 1))
    busy = []
    is_done = False
    while not is_done:
        elapsed, served = timed_step(core)
        busy.append(elapsed)  # each stream gets a token in each step: a step is a gap
        assert streams <= served, "a stream was stalled"
        is_done = "long" in served
    return {
        "max_num_batched_tokens": max_num_batched_tokens,
        "quiet_p50_ms": round(statistics.median(quiet), 1),
        "quiet_p99_ms": round(p99(quiet), 1),
        "busy_p50_ms": round(statistics.median(busy), 1),
        "busy_p99_ms": round(p99(busy), 1),
        "rise_p99_ms": round(p99(busy) - p99(quiet), 1),
        "chunk_p50_ms": round(statistics.median(chunks), 1),
        "chunk_max_ms": round(max(chunks), 1),
        "prefill_tokens_per_s": round(prompt_tokens / sum(chunks) * 1000),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[default_batched_tokens("cpu", 64)]
    )
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    args = parser.parse_args()
    results = []
    for budget in args.budgets:
        results.append(measure(budget, args.prompt_tokens))
        print(results[-1], flush=True)
    print(json.dumps({"benchmark": "chunked_prefill", "streams": NUM_STREAMS, "runs": results}))


if __name__ == "__main__":
    main()
