"""An 8B model as a server starts it, over the fake driver: which kernels it asks for.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.in_advance.served

One line of JSON: how many forms of kernels those parts of a run ask for that are 8B models of 16
bits, whose machine code `fill_cache` makes in advance, and which forms a server would ask for
beside them, with guesses and without, for texts of other lengths.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import torch

from tests.fake_gpu import driver
from tests.fake_gpu.driver import Form
from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance.timed_parts import MetaBench, asked_parts, benches
from thirdeye.server.bench.engine import checked
from thirdeye.server.bench.model_shapes import LLAMA3_8B
from thirdeye.server.bench.report import Plan
from thirdeye.server.engine.core.warmup import prompt_lengths
from thirdeye.server.engine.interface.types import Request, SamplingParams

CUDA = torch.device("cuda")
CONTEXT, ROWS, STEP = 4000, 20, 2048
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
        known = forms(notes, parts["engine 8B"]) | forms(notes, parts["guesses"])
        asked = {
            name: forms(notes, lambda most=most: serve(most))
            for name, most in (("plain", 0), ("guesses", 15))
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


def serve(num_draft_tokens: int) -> None:
    """Prompts of all lengths that have kernels of their own, and requests of every kind."""
    with benches(replace(LLAMA3_8B, num_hidden_layers=1)), torch.inference_mode():
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
