"""Mixed requests over the fake driver, and which machine code they would have waited for.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.serve STEPS FORM ...

One line of JSON: for each form, what was asked of the compiler by captures, by all that comes
before the first request, and in how many of the steps that serve; those are named.
"""

import json
import random
import sys
from collections.abc import Sequence
from typing import Any

import torch

from tests.fake_gpu import driver
from tests.fake_gpu.engine import FakeEngine, graphs_of_the_trial, make_engine, pretending
from tests.fake_gpu.forms import FORMS, TRIED
from thirdeye.server.engine.interface.step_result import BROKEN_LOGITS
from thirdeye.server.engine.interface.types import Request, SamplingParams

LENGTHS = (1, 2, 3, 17, 60, 200, 256, 500, 900, 2000)
WISHES: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 0.7},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 20},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.0, "frequency_penalty": 0.5},
    {"temperature": 0.0, "logprobs": 3},
    {"temperature": 0.0, "logit_bias": {5: 1.0}},
    {"max_tokens": 0},  # an embedding: steps that are not launched ahead
)


def main(arguments: Sequence[str]) -> None:
    steps, *names = arguments
    torch.set_num_threads(1)
    notes = driver.install()
    report = {}
    with torch.inference_mode(), pretending():
        for name in names:
            notes.forget()
            engine = make_engine(FORMS[name], notes)
            graphs = engine.captures.count
            served = serve(engine, notes, int(steps), FORMS[name].max_num_seqs)
            report[name] = {
                "captured": engine.num_captured,
                "warmed": engine.num_warmed,
                "served": served,
                "graphs": graphs,
                "graphs_later": engine.captures.count - graphs,
                "graphs_tried": graphs_of_the_trial(FORMS[name]) if name in TRIED else None,
                "drafted": engine.core.stats().spec_decode_num_draft_tokens_total,
                "kernels": sorted({kernel.__name__ for kernel in notes.kernels}),
            }
    print(json.dumps(report))


def serve(
    engine: FakeEngine, notes: driver.Notes, num_steps: int, most: int
) -> list[tuple[int, str, str]]:
    """(step, kernel, facts) of each form that a step would have waited for. Ever more requests, up
    to 40 at a time: after 320 steps, or sooner where there are many and yet fewer."""
    draw, pace = random.Random(1), 8 if num_steps < 100 else min(8, num_steps // 40)
    before, number, late = len(notes.forms), 0, []
    for step in range(num_steps):
        target = min(most, 1 + step // pace % 40)
        while (stats := engine.core.stats()).num_requests_running + (
            stats.num_requests_waiting
        ) < target:
            engine.core.add(make_request(number, draw))
            number += 1
        for output in engine.core.step():
            assert output.error in (None, BROKEN_LOGITS), output.error  # an embedding is chance
        late += [(step, form.kernel, form.facts) for form in notes.forms[before:]]
        before = len(notes.forms)
    return late


def make_request(number: int, draw: random.Random) -> Request:
    length = int(draw.choice(LENGTHS) * draw.uniform(0.7, 1.3)) + 1
    wish = {"max_tokens": draw.randint(4, 40), "ignore_eos": True} | draw.choice(WISHES)
    return Request(
        request_id=str(number),
        prompt_token_ids=[draw.randrange(1000) for _ in range(length)],
        sampling=SamplingParams(**wish),
        is_embedding=wish["max_tokens"] == 0,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
