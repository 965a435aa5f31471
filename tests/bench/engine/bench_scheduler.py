"""What the scheduler costs: microseconds of pure Python for each step, by number of sequences.

    python -m tests.bench.engine.bench_scheduler

Each sequence has a prompt of 64 tokens and decodes 128, with blocks of 16 and the prefix cache on;
the "model" answers at once. A step is schedule() + update(); building tensors is measured beside
it. The last line is JSON.
"""

import json
import time

import torch

from thirdeye.server.engine.execution.input_batch import build_batch
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import StepPlan

PROMPT_TOKENS = 64
MAX_TOKENS = 128
BLOCK_SIZE = 16


def make_scheduler(num_sequences: int) -> Scheduler:
    length = PROMPT_TOKENS + MAX_TOKENS
    config = EngineConfig(
        max_model_len=length,
        num_blocks=(length // BLOCK_SIZE + 1) * num_sequences,
        block_size=BLOCK_SIZE,
        max_num_seqs=num_sequences,
        max_num_batched_tokens=PROMPT_TOKENS * num_sequences,
    )
    scheduler = Scheduler(config)
    for i in range(num_sequences):
        sampling = SamplingParams(max_tokens=MAX_TOKENS, ignore_eos=True)
        prompt = [(i * PROMPT_TOKENS + j) % 50_000 for j in range(PROMPT_TOKENS)]
        scheduler.add(Request(request_id=str(i), prompt_token_ids=prompt, sampling=sampling))
    return scheduler


def answer(plan: StepPlan) -> StepResult:
    return StepResult([RowResult(token_ids=[7]) for _ in plan.rows])


def measure(num_sequences: int) -> dict[str, float]:
    """Mean microseconds for a decoding step."""
    scheduler = make_scheduler(num_sequences)
    plan = scheduler.schedule()
    scheduler.update(plan, answer(plan))
    scheduling = inputs = 0.0
    num_steps = 0
    while scheduler.has_work:
        started = time.perf_counter()
        plan = scheduler.schedule()
        scheduled = time.perf_counter()
        build_batch(plan, BLOCK_SIZE, torch.device("cpu"))
        built = time.perf_counter()
        result = answer(plan)
        answered = time.perf_counter()
        scheduler.update(plan, result)
        scheduling += scheduled - started + time.perf_counter() - answered
        inputs += built - scheduled
        num_steps += 1
    return {
        "scheduler_us": round(scheduling / num_steps * 1e6, 1),
        "inputs_us": round(inputs / num_steps * 1e6, 1),
    }


def main() -> None:
    results: dict[str, dict[str, float]] = {}
    for num_sequences in (1, 32, 256):
        best = min((measure(num_sequences) for _ in range(3)), key=lambda m: m["scheduler_us"])
        results[str(num_sequences)] = best
        print(f"{num_sequences:4d} sequences: {best}")
    print(json.dumps({"benchmark": "scheduler", "us_per_step": results}))


if __name__ == "__main__":
    main()
