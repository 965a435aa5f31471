"""Models as a server starts them, over the fake driver: which kernels they ask for.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.in_advance.served

One line of JSON: how many forms of kernels those parts of a run ask for that are models of 16 bits,
whose machine code `fill_cache` makes in advance, and which forms a server of each model would ask
for beside them, with guesses and without, for texts of other lengths.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from tests.fake_gpu import driver
from tests.fake_gpu.driver import Form
from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance.timed_parts import MetaBench, asked_parts, benches
from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.engine import checked
from thirdeye.server.bench.model_shapes import LLAMA3_8B, QWEN3_0_6B
from thirdeye.server.bench.report import Plan
from thirdeye.server.engine.core.warmup import prompt_lengths
from thirdeye.server.engine.interface.types import Request, SamplingParams

CUDA = torch.device("cuda")
CONTEXT, ROWS, STEP = 4000, 20, 2048
MODELS = {"8B": LLAMA3_8B, "0.6B": QWEN3_0_6B}
PACKED = ("engine 8B", "engine 0.6B", "engine 0.6B, eager", "served", "guesses")
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
        parts = dict(asked_parts())
        known = set[Form]().union(*(forms(notes, parts[name]) for name in PACKED))
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


def forms(notes: driver.Notes, work: Callable[[], None]) -> set[Form]:
    notes.forget()
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
