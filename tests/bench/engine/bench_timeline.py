"""What the flight recorder costs: microseconds a step, by number of sequences in it.

    python -m tests.bench.engine.bench_timeline

The recorder is called as the engine calls it, over a plan of that many decoding rows; `timings` is
what the sequences count for their own requests beside it. Processor time, so that a busy machine
does not blur it. The last line is JSON.
"""

import json
import time

from tests.bench.engine.bench_scheduler import answer, make_scheduler
from thirdeye.server.engine.core.step_recorder import StepRecorder
from thirdeye.server.engine.interface.step_record import StepGauges
from thirdeye.server.engine.scheduling.step_plan import StepPlan

ROUNDS = 2000


def decoding_plan(num_sequences: int) -> tuple[StepPlan, StepGauges]:
    scheduler = make_scheduler(num_sequences)
    plan = scheduler.schedule()
    scheduler.update(plan, answer(plan))
    return scheduler.schedule(), scheduler.gauges()


def measure(num_sequences: int) -> dict[str, float]:
    plan, gauges = decoding_plan(num_sequences)
    recorder = StepRecorder()
    started = time.process_time()
    for _ in range(ROUNDS):
        recorder.start()
        recorder.scheduled(plan, gauges, ())
        recorder.computed(0.001, 0.001)
        recorder.finish()
    recorded = time.process_time()
    for _ in range(ROUNDS):
        for row in plan.rows:
            row.sequence.timings.count_step(num_sequences)
            row.sequence.timings.count_output(started)
    counted = time.process_time()
    return {
        "recorder_us": round((recorded - started) / ROUNDS * 1e6, 2),
        "timings_us": round((counted - recorded) / ROUNDS * 1e6, 2),
    }


def main() -> None:
    results: dict[str, dict[str, float]] = {}
    for num_sequences in (1, 8, 32, 64, 256):
        best = min((measure(num_sequences) for _ in range(3)), key=lambda m: m["recorder_us"])
        results[str(num_sequences)] = best
        print(f"{num_sequences:4d} sequences: {best}")
    print(json.dumps({"benchmark": "timeline", "us_per_step": results}))


if __name__ == "__main__":
    main()
