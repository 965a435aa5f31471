"""Models as a server starts them, over the fake driver: which kernels they ask for.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.in_advance.served

One line of JSON: how many forms of kernels those parts of a run ask for that are models of 16 bits,
whose machine code `fill_cache` makes in advance, and which forms a server of each model would ask
for beside them, with guesses and without, for texts of other lengths.
"""

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import torch

from tests.fake_gpu import driver
from tests.fake_gpu.driver import Form
from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance import timed_parts
from tests.fake_gpu.in_advance.timed_parts import MetaBench, benches, guess
from tests.gpu.parts import engine_plan, gpu_plans
from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.engine import checked
from thirdeye.server.bench.model_shapes import LLAMA3_8B, QWEN3_0_6B
from thirdeye.server.bench.report import Plan
from thirdeye.server.bench.workloads import read_shape
from thirdeye.server.engine.core.warmup import prompt_lengths
from thirdeye.server.engine.interface.types import Request, SamplingParams

CUDA = torch.device("cuda")
CONTEXT, ROWS, STEP = 4000, 20, 2048
MODELS = {"8B": LLAMA3_8B, "0.6B": QWEN3_0_6B}
PLANS = ("engine 8B", "engine 0.6B", "engine 0.6B, eager")
FEW = 3  # steps in which every row decodes
SERVED_STEPS = 8  # in which "served" computes its prompts
WISHES = (
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 20},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.0, "logprobs": 3, "logit_bias": {5: 1.0}},
)


def main() -> None:
    torch.set_num_threads(1)
    notes = driver.install()
    with pretending():
        known = set[Form]().union(*(forms(notes, part) for part in packed_parts()))
        asked = {
            f"{name}, {how}": forms(notes, partial(serve, config, most))
            for name, config in MODELS.items()
            for how, most in (("plain", 0), ("guesses", 15))
        }
    unknown = {
        name: sorted(f"{form.kernel}: {form.facts}" for form in found - known)
        for name, found in asked.items()
    }
    kernels = {name: sorted({form.kernel for form in found}) for name, found in asked.items()}
    print(json.dumps({"known": len(known), "unknown": unknown, "kernels": kernels}))


def packed_parts() -> Iterator[Callable[[], None]]:
    """Their beginnings: the same engines and prompts, and of the steps behind them the first few,
    so that a form asked for here is one that the whole parts ask for."""
    plans = gpu_plans()
    for name in PLANS:
        yield partial(begin, engine_plan(**plans[name]))
    yield partial(timed_parts.serve, SERVED_STEPS + FEW)
    yield guess


def begin(plan: Plan) -> None:
    shape = replace(read_shape(plan.shape), num_hidden_layers=1)
    with benches(shape), torch.inference_mode():
        bench = MetaBench(replace(plan, bandwidth=1e12))
        for context, batch in product(plan.contexts, plan.batches):
            core = bench.decoding(batch, context)
            for _ in range(FEW):
                checked(core)
            core.abort_all()
        for length in plan.prefills:
            bench.prefill(length, repeats=1)


def forms(notes: driver.Notes, work: Callable[[], None]) -> set[Form]:
    notes.forget()
    gc.freeze()  # each engine that is made looks for garbage: what is here by now is none
    before = len(notes.forms)
    work()
    return set(notes.forms[before:])


def serve(config: ModelConfig, num_draft_tokens: int) -> None:
    """Prompts of all lengths that have kernels of their own, and requests of every kind."""
    with benches(replace(config, num_hidden_layers=1)), torch.inference_mode():
        bench = MetaBench(Plan("", [], [], 1, 0, "cuda", "auto", "auto", bandwidth=1e12))
        core = bench.engine(ROWS, ROWS * CONTEXT, CONTEXT, STEP, num_draft_tokens=num_draft_tokens)
        for length in prompt_lengths(CUDA, STEP):
            for i, wish in enumerate(WISHES):
                sampling = SamplingParams(max_tokens=9, ignore_eos=True, **wish)
                name = f"{length}-{i}"
                core.add(Request(request_id=name, prompt_token_ids=[0] * length, sampling=sampling))
            while core.has_work:
                checked(core)
        drafted = core.stats().spec_decode_num_draft_tokens_total
        assert (drafted > 0) == (num_draft_tokens > 0)


if __name__ == "__main__":
    main()
