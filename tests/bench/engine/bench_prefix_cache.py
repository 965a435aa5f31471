"""What the prefix cache is worth, and what it costs: requests per second, by share of the prompt.

    python -m tests.bench.engine.bench_prefix_cache

Prompts of 512 tokens, answers of 8, eight at a time, in an engine in this process with the default
model's shape and random weights. "shared" prompts begin with the same 90 % of their tokens,
"distinct" ones share nothing; each is run with the cache and without, after one request that does
not count. Promised: shared with the cache at least 2.5 times as fast as without; distinct no more
than 1 % slower. Rounds alternate, so that a busy machine disturbs both alike; the median of each
counts.

One percent is less than the noise of such a run, so the loss is measured by itself too: the same
distinct requests with a runner that answers at once, so that only bookkeeping is left. What the
cache adds to it, as a share of the time that a request takes with the model, is the loss. The last
line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from itertools import count

from tests.bench.engine.dummy_engine import dummy_core, dummy_model
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.engine.scheduling.step_plan import StepPlan

PROMPT_TOKENS = 512
MAX_TOKENS = 8
CONCURRENCY = 8
VOCAB = 49_000


def prompts(num_tokens: int, num_shared: int) -> Iterator[list[int]]:
    """Endless prompts, equal in their first `num_shared` tokens and in nothing else."""
    prefix = [i * 31 % VOCAB for i in range(num_shared)]
    for number in count(1):
        yield prefix + [(number * 7919 + i * 17) % VOCAB for i in range(num_tokens - num_shared)]


def requests_per_second(
    core: EngineCore, num_tokens: int, num_shared: int, num_requests: int
) -> float:
    sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0, ignore_eos=True)
    to_send = [
        Request(request_id=str(i), prompt_token_ids=prompt, sampling=sampling)
        for i, prompt in zip(range(num_requests + 1), prompts(num_tokens, num_shared), strict=False)
    ]
    core.add(to_send.pop())
    while core.has_work:
        core.step()
    num_open = 0
    started = time.perf_counter()
    while to_send or num_open:
        while to_send and num_open < CONCURRENCY:
            core.add(to_send.pop())
            num_open += 1
        num_open -= sum(output.finish_reason is not None for output in core.step())
    return num_requests / (time.perf_counter() - started)


class NoModel:
    """A runner whose model is free."""

    def run(self, plan: StepPlan) -> StepResult:
        return StepResult([RowResult([7]) if row.is_sampled else RowResult() for row in plan.rows])


def sizes(is_enabled: bool) -> dict[str, int | bool]:
    return {
        "max_model_len": 1024,
        "max_num_batched_tokens": 256,
        "num_blocks": 1024,
        "enable_prefix_caching": is_enabled,
    }


def measure(
    model: Transformer, num_tokens: int, num_shared: int, num_requests: int, rounds: int
) -> dict[str, float]:
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for is_enabled in (False, True):
            core = dummy_core(model=model, **sizes(is_enabled))  # type: ignore[arg-type]
            rates[is_enabled].append(
                requests_per_second(core, num_tokens, num_shared, num_requests)
            )
    cached, uncached = (statistics.median(rates[is_enabled]) for is_enabled in (True, False))
    return {
        "cached_rps": round(cached, 3),
        "uncached_rps": round(uncached, 3),
        "ratio": round(cached / uncached, 3),
    }


def bookkeeping(num_tokens: int, num_requests: int) -> dict[str, float]:
    """Milliseconds for a distinct request when the model is free, least of nine turns."""
    turns: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(9):
        for is_enabled in (False, True):
            core = EngineCore(EngineConfig(**sizes(is_enabled)), NoModel())  # type: ignore[arg-type]
            rate = requests_per_second(core, num_tokens, 0, num_requests)
            turns[is_enabled].append(1000 / rate)
    return {
        "cached_ms": round(min(turns[True]), 3),
        "uncached_ms": round(min(turns[False]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    args = parser.parse_args()
    model = dummy_model()
    results = {
        name: measure(model, args.prompt_tokens, num_shared, args.requests, args.rounds)
        for name, num_shared in (("shared_90", args.prompt_tokens * 9 // 10), ("distinct", 0))
    }
    results["bookkeeping"] = bookkeeping(args.prompt_tokens, 64)
    added = results["bookkeeping"]["cached_ms"] - results["bookkeeping"]["uncached_ms"]
    results["bookkeeping"]["loss"] = round(added / (1000 / results["distinct"]["uncached_rps"]), 5)
    for name, result in results.items():
        print(f"{name}: {result}")
    print(json.dumps({"benchmark": "prefix_cache", **results}))


if __name__ == "__main__":
    main()
