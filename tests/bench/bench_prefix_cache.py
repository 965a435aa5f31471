"""What the prefix cache is worth, and what it costs: requests per second, by share of the prompt.

    python -m tests.bench.bench_prefix_cache

Prompts of 512 tokens, answers of 8, eight at a time, in an engine in this process with the default
model's shape and random weights. "shared" prompts begin with the same 90 % of their tokens,
"distinct" ones share nothing; each is run with the cache and without, after one request that does
not count. Promised: shared with the cache at least 2.5 times as fast as without; distinct no more
than 1 % slower. Rounds alternate, so that a busy machine disturbs both alike, and the best of each
counts. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import count

from model.transformer import Transformer
from server.engine.core import EngineCore
from server.engine.types import Request, SamplingParams
from tests.bench.dummy_engine import dummy_core, dummy_model

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


def measure(
    model: Transformer, num_tokens: int, num_shared: int, num_requests: int, rounds: int
) -> dict[str, float]:
    best = {True: 0.0, False: 0.0}
    for _ in range(rounds):
        for is_enabled in (False, True):
            core = dummy_core(
                max_model_len=1024,
                max_num_batched_tokens=256,
                num_blocks=1024,
                enable_prefix_caching=is_enabled,
                model=model,
            )
            rate = requests_per_second(core, num_tokens, num_shared, num_requests)
            best[is_enabled] = max(best[is_enabled], rate)
    return {
        "cached_rps": round(best[True], 3),
        "uncached_rps": round(best[False], 3),
        "ratio": round(best[True] / best[False], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    args = parser.parse_args()
    model = dummy_model()
    results = {
        name: measure(model, args.prompt_tokens, num_shared, args.requests, args.rounds)
        for name, num_shared in (("shared_90", args.prompt_tokens * 9 // 10), ("distinct", 0))
    }
    for name, result in results.items():
        print(f"{name}: {result}")
    print(json.dumps({"benchmark": "prefix_cache", **results}))


if __name__ == "__main__":
    main()
