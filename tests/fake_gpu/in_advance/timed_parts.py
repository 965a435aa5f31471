"""The parts of `tests.gpu.run` that are timed, over the fake driver: which kernels they ask for.

Sizes, options and steps are the run's own, on tensors without memory: nothing is computed, and
every token is token 0. A model has one layer of each kind that differs, since all ask for the same.
"""

import math
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count, takewhile
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.fake_gpu.engine import MULTIPROCESSORS, make_model
from tests.fake_gpu.forms import ServedForm
from tests.gpu.checkpoint import LLAMA_0_6B
from tests.gpu.parts import ATTENTION_GRID, PRODUCT_ROWS, SERVED_SIZES, engine_plan, gpu_plans
from tests.gpu.timings import attention_rows, product_rows
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.bench import engine as bench_engine
from thirdeye.server.bench import measure as bench_measure
from thirdeye.server.bench.engine import EngineBench, checked
from thirdeye.server.bench.model_shapes import LLAMA3_8B, QWEN3_0_6B
from thirdeye.server.bench.report import Plan
from thirdeye.server.bench.workloads import read_shape
from thirdeye.server.engine.execution import model_runner
from thirdeye.server.engine.run_ahead.cuda_stream import ReadyResult, Work
from thirdeye.server.engine.sampling.host_sampler import HostSampler
from thirdeye.server.engine.sampling.logits_processors import Processor
from thirdeye.server.engine.sampling.sampler import Sampler
from thirdeye.server.load import overlap

META = torch.device("meta")
BF16 = torch.bfloat16
LONGEST = 8192  # tokens of a text, as Llama 3 has them


class MetaStream:
    """In the place of `CudaStream`: every row has chosen a token, the first."""

    def run(self, work: Callable[[], object]) -> None:
        with torch.inference_mode():
            work()

    def submit(self, work: Work) -> ReadyResult:
        with torch.inference_mode():
            said = torch.zeros(work().shape, dtype=torch.int64)
        said[:, 0] = 1
        return ReadyResult(said)


class MetaSampler(HostSampler):
    """The same for steps that are not launched ahead, which ask for what chooses tokens, too."""

    def __init__(self, sampler: Sampler, processors: Seq[Processor]) -> None:
        def choose(logits: Tensor, *asked: Any) -> Tensor:
            sampler(logits, *asked)
            return torch.zeros(len(logits), dtype=torch.int64)

        super().__init__(choose, processors)


class MetaBench(EngineBench):
    """Decides by sizes as on a GPU."""

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def device_name(self) -> str:
        return "none"


def timed_parts() -> Iterator[tuple[str, Callable[[], None]]]:
    """By the names of `tests/gpu/parts.py`."""
    for name, fields in gpu_plans().items():
        yield name, partial(run_plan, engine_plan(**fields))
    yield "served", serve
    yield "attention", attend
    yield "products", multiply


def asked_parts() -> Iterator[tuple[str, Callable[[], None]]]:
    """All that is compiled in advance beside what checks ask for."""
    yield from timed_parts()
    yield "guesses", guess


def run_plan(plan: Plan) -> None:
    plan = replace(plan, bandwidth=1e12)
    with benches(replace(read_shape(plan.shape), num_hidden_layers=1)):
        for _ in bench_measure.measure(plan):
            pass


def serve(most_steps: float = math.inf) -> None:
    """The engine alone, of the same sizes as behind HTTP."""
    streams, prompt, answer = SERVED_SIZES.values()
    with benches(replace(LLAMA_0_6B, num_hidden_layers=1)), torch.inference_mode():
        bench = MetaBench(Plan("", [], [], 1, 0, "cuda", "auto", "auto", bandwidth=1e12))
        core = bench.engine(streams, streams * (prompt + answer), prompt + answer)
        for i in range(streams):
            core.add(bench.request(i, [0] * prompt, answer))
        for _ in takewhile(lambda step: core.has_work and step < most_steps, count()):
            checked(core)


def guess() -> None:
    """Guesses from the text by each model, which no part is timed with yet: what a server asks for
    beside the others."""
    for config in (LLAMA3_8B, QWEN3_0_6B):
        guess_by(config)


def guess_by(config: ModelConfig) -> None:
    with benches(replace(config, num_hidden_layers=1)), torch.inference_mode():
        bench = MetaBench(Plan("", [], [], 1, 0, "cuda", "auto", "auto", bandwidth=1e12))
        core = bench.engine(8, 8 * LONGEST, LONGEST, num_draft_tokens=15)
        core.add(bench.request(0, [0] * 9, 40))
        while core.has_work:
            checked(core)
        assert core.stats().spec_decode_num_draft_tokens_total > 0


def attend() -> None:
    with torch.inference_mode(), patch("tests.gpu.timings.choose_attention", choose_triton):
        for _ in attention_rows(META, 1e12, *ATTENTION_GRID):
            pass


def multiply() -> None:
    has = {"can_fuse": lambda device: True, "num_multiprocessors": lambda device: MULTIPROCESSORS}
    with torch.inference_mode(), patch.multiple("tests.gpu.timings", **has):
        for _ in product_rows(META, PRODUCT_ROWS):
            pass


def benches(config: ModelConfig) -> ExitStack:
    """`EngineBench` of this model, as on a GPU."""

    def place(plan: Plan) -> Placement:
        kept = {"quantize": plan.quantize, "is_deterministic": plan.is_deterministic}
        return Placement(BF16, META, is_fused=True, **kept)  # type: ignore[arg-type]

    def model(config: ModelConfig, attention: str, where: Placement) -> Transformer:
        form = ServedForm(config, quantize=where.quantize, is_deterministic=where.is_deterministic)
        return make_model(form, META)

    def kv_dtype(name: str, *_: Any) -> torch.dtype:
        return FP8 if name == "fp8" else BF16

    stack = ExitStack()
    for name, stand_in in (
        ("place", place),
        ("random_model", model),
        ("choose_kv_dtype", kv_dtype),
        ("read_shape", lambda shape: config),
        ("runs_ahead", lambda choice, *_, **__: choice != "off"),
        ("kv_budget", lambda *_: 1 << 50),
    ):
        stack.enter_context(patch.object(bench_engine, name, stand_in))
    stack.enter_context(patch.object(bench_measure, "EngineBench", MetaBench))
    stack.enter_context(patch.object(overlap, "CpuStream", MetaStream))
    stack.enter_context(patch.object(model_runner, "HostSampler", MetaSampler))
    return stack


def choose_triton(name: str, device: torch.device) -> TritonAttention:
    if name != "triton":
        raise ValueError(f"{name} has no kernels of ours")
    return TritonAttention(num_multiprocessors=MULTIPROCESSORS)
