"""`thirdeye bench engine`: the engine in this process, without HTTP, text or a real model.

A composition root like `server/worker.py`. Weights are random, N(0, 0.02): zeros would make matrix
products faster than they are. Steps go through the scheduler, the runner and the sampler, as they
do when serving. Each time is held against the memory floor: the bytes that a step cannot do without
reading (every weight but the embedding tables once, and the keys and values of the batch), divided
by the memory's bandwidth, which is measured by a copy unless it is given.
"""

import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from model.attention.choose import choose_attention
from model.config import ModelConfig
from model.describe import parameter_counts
from model.kv_cache import kv_bytes_per_block
from model.kv_choose import choose_kv_dtype, make_kv_cache
from model.placement import Placement
from model.quant.choose import choose_quantization
from model.transformer import Transformer
from server.ahead import SCRAP_BLOCKS, make_launcher, runs_ahead
from server.bench_device import (
    measure_bandwidth,
    measure_matmul,
    now,
    profiled_busy_seconds,
    stored_bytes,
)
from server.deterministic import check_deterministic
from server.engine.config import EngineConfig
from server.engine.core import EngineCore
from server.engine.memory import kv_budget
from server.engine.runner import ModelRunner
from server.engine.types import FinishReason, Request, SamplingParams, StepOutput
from server.native import compiled_library
from server.shapes import SHAPES
from server.worker import choose_device, choose_dtype, load_native
from weights.checkpoint import open_checkpoint

BLOCK_SIZE = 16
WEIGHT_SCALE = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, where."""

    shape: str
    batches: Sequence[int]
    contexts: Sequence[int]
    steps: int  # timed in each cell of the grid
    workload: int  # sequences of the nano-vllm workload, 0: left out
    device: str
    dtype: str
    attention: str
    bandwidth: float | None  # bytes a second
    cuda_graphs: str = "auto"
    quantize: str = "none"
    kv_dtype: str = "auto"
    prefills: Sequence[int] = ()  # lengths of lone prompts
    is_deterministic: bool = False  # the same bits in any batch


@dataclass(frozen=True, slots=True)
class Cell:
    """Decode steps of one batch size, around one context length."""

    batch: int
    context: int
    step_ms: float  # median
    tokens_per_second: float
    floor_ms: float
    share_of_floor: float  # 1 is as fast as the memory allows
    gpu_idle_share: float | None  # of the time, no kernel runs; None on a CPU


@dataclass(frozen=True, slots=True)
class Prefill:
    """One prompt alone, in one step."""

    tokens: int
    step_ms: float
    tokens_per_second: float
    operations_per_second: float
    share_of_matmul: float  # of the rate that a large matrix product reaches here


@dataclass(frozen=True, slots=True)
class Workload:
    num_sequences: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    output_tokens_per_second: float
    floor_seconds: float  # of decoding alone, with all sequences admitted at once
    share_of_floor: float


def read_shape(name: str) -> ModelConfig:
    """A known shape, or that of a checkpoint. Raises ValueError or OSError if there is none."""
    if name in SHAPES:
        return SHAPES[name]
    if not Path(name).exists():
        raise ValueError(f"'--shape' must be one of {', '.join(SHAPES)} or a path, got '{name}'.")
    return open_checkpoint(Path(name)).config


def weight_bytes_per_step(config: ModelConfig, dtype: torch.dtype) -> int:
    """All weights but those that are looked up: a tied embedding is read as the head."""
    counts = parameter_counts(config)
    looked_up = counts.positions + (0 if config.tie_word_embeddings else counts.embeddings)
    return (counts.total - looked_up) * dtype.itemsize


def prefill_operations(config: ModelConfig, num_tokens: int) -> int:
    """Of a prompt: 2 for each weight and token, less the head, which one row passes; and causal
    attention, half of all pairs scored and mixed."""
    counts = parameter_counts(config)
    blocks = counts.attention + counts.mlp
    head = config.vocab_size * config.hidden_size
    heads = config.num_heads * config.head_dim * config.num_hidden_layers
    return 2 * (blocks * num_tokens + head) + 2 * num_tokens**2 * heads


def random_model(config: ModelConfig, attention: str, where: Placement) -> Transformer:
    """Norms multiply by about 1, so that activations keep the size they have in real models."""
    if where.is_deterministic:
        check_deterministic(where, attention)
    model = Transformer(
        config,
        choose_attention(
            attention, where.device, where.native, is_deterministic=where.is_deterministic
        ),
        dtype=where.dtype,
        device=where.device,
        quantize=where.quantize,
        native=where.native,
        is_deterministic=where.is_deterministic,
    )
    generator = torch.Generator(where.device).manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.normal_(
            1.0 if name.endswith("norm.weight") else 0.0, WEIGHT_SCALE, generator=generator
        )
    model.finish()
    return model


class Bench:
    """One model, and an engine around it for each measurement."""

    def __init__(self, plan: Plan) -> None:
        self.config = read_shape(plan.shape)
        self.device = choose_device(plan.device)
        self.dtype = choose_dtype(plan.dtype, self.device)
        self.plan = plan
        native = load_native(compiled_library(), self.device, self.dtype)
        where = Placement(
            self.dtype, self.device, native=native, is_deterministic=plan.is_deterministic
        )
        self.quantize = choose_quantization(plan.quantize, where)
        self.kv_dtype = choose_kv_dtype(
            plan.kv_dtype, plan.attention, self.dtype, self.device, self.quantize
        )
        self.model = random_model(
            self.config, plan.attention, replace(where, quantize=self.quantize)
        )
        self.is_ahead = runs_ahead(plan.cuda_graphs, self.device, self.model.backend)
        self.bandwidth = plan.bandwidth or measure_bandwidth(self.device)
        self.weight_bytes = weight_bytes_per_step(self.config, self.dtype)
        if self.quantize != "none":
            self.weight_bytes = stored_bytes(self.model)
        self.block_bytes = kv_bytes_per_block(self.config, BLOCK_SIZE, self.kv_dtype)
        self.kv_bytes = self.block_bytes // BLOCK_SIZE  # of one token

    def engine(
        self, max_num_seqs: int, num_tokens: int, longest: int, num_batched_tokens: int = 0
    ) -> EngineCore:
        """KV for `num_tokens`, as far as the memory holds them: more are preempted, as served."""
        wanted = num_tokens // BLOCK_SIZE + max_num_seqs + 1
        room = kv_budget(self.device, None) // self.block_bytes if self.is_cuda else wanted
        config = EngineConfig(
            max_model_len=longest,
            num_blocks=min(wanted, room),
            block_size=BLOCK_SIZE,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max(
                8192 if self.is_cuda else 512, max_num_seqs, num_batched_tokens
            ),
            enable_prefix_caching=False,
        )
        num_blocks = config.num_blocks + SCRAP_BLOCKS * self.is_ahead
        cache = make_kv_cache(self.config, num_blocks, BLOCK_SIZE, self.kv_dtype, self.device)
        runner = ModelRunner(self.model, cache, config, self.device)
        if not self.is_ahead:
            return EngineCore(config, runner)
        launcher = make_launcher(self.model, cache, config, self.device)
        return EngineCore(config, runner, launcher=launcher)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def cell(self, batch: int, context: int) -> Cell:
        """The context is reached in the middle of the timed steps."""
        prompt = max(1, context - self.plan.steps // 2)
        answer = (2 if self.is_cuda else 1) * self.plan.steps + 4  # on a GPU as many profiled
        needed = prompt + answer
        if needed > self.config.max_position_embeddings:
            limit = self.config.max_position_embeddings
            raise ValueError(
                f"'--context' {context} with '--steps' {self.plan.steps} needs {needed} positions, "
                f"this shape has {limit}: lower one of them."
            )
        core = self.engine(batch, batch * needed, needed)
        tokens = random.Random(0)
        for i in range(batch):
            core.add(self.request(i, self.prompt(tokens, prompt), answer))
        computed = 0
        while computed < batch:  # prompts first: afterwards every step gives every row a token
            computed += sum(bool(output.token_ids) for output in checked(core))
        times = [self.timed_step(core) for _ in range(self.plan.steps)]
        step = statistics.median(times)
        floor = (self.weight_bytes + batch * context * self.kv_bytes) / self.bandwidth
        idle = self.idle_share(core, statistics.mean(times))
        core.abort_all()
        return Cell(batch, context, 1e3 * step, batch / step, 1e3 * floor, floor / step, idle)

    def idle_share(self, core: EngineCore, step: float) -> float | None:
        """1 - kernels' time / a step's: the kernels' from profiled steps, the step's from those
        before, which the profiler did not slow down."""

        def work() -> None:
            for _ in range(self.plan.steps):
                checked(core)

        busy = profiled_busy_seconds(work, self.device) if self.is_cuda else None
        return None if busy is None else max(0.0, 1 - busy / self.plan.steps / step)

    def prefill(self, length: int, repeats: int = 3) -> Prefill:
        """The least of a few prompts' first steps, behind one that is not timed."""
        seconds = []
        for i in range(1 + repeats):
            core = self.engine(1, length + 2, length + 2, num_batched_tokens=length)
            core.add(self.request(i, self.prompt(random.Random(i), length), 2))
            start = now(self.device)
            while not any(output.token_ids for output in checked(core)):
                pass
            seconds.append(now(self.device) - start)
            core.abort_all()
        least = min(seconds[1:])
        rate = prefill_operations(self.config, length) / least
        return Prefill(length, 1e3 * least, length / least, rate, rate / self.matmul_rate)

    @cached_property
    def matmul_rate(self) -> float:
        return measure_matmul(self.device, self.dtype)

    def timed_step(self, core: EngineCore) -> float:
        """Without waiting for the device: a step ends when one has been read, and if it runs ahead
        the device goes on meanwhile."""
        start = time.perf_counter()
        checked(core)
        return time.perf_counter() - start

    def prompt(self, tokens: random.Random, length: int) -> list[int]:
        return [tokens.randint(0, 10000) % self.config.vocab_size for _ in range(length)]

    def request(self, number: int, prompt: list[int], max_tokens: int) -> Request:
        sampling = SamplingParams(
            max_tokens=max_tokens, temperature=0.6, ignore_eos=True, seed=number
        )
        return Request(request_id=str(number), prompt_token_ids=prompt, sampling=sampling)

    def workload(self, num_sequences: int) -> Workload:
        """Everything at once, to the end; see `nano_vllm`."""
        work = list(nano_vllm(num_sequences))
        sums = [len(prompt) + output for prompt, output in work]
        core = self.engine(num_sequences, sum(sums), max(sums))
        vocab = self.config.vocab_size
        for i, (prompt, output) in enumerate(work):
            core.add(self.request(i, [token % vocab for token in prompt], output))
        start, done = now(self.device), 0
        while core.has_work:
            done += sum(len(output.token_ids) for output in checked(core))
        seconds = now(self.device) - start
        floor = self.workload_floor(work)
        prompts = sum(len(prompt) for prompt, _ in work)
        return Workload(
            num_sequences, prompts, done, seconds, done / seconds, floor, floor / seconds
        )

    def workload_floor(self, work: Sequence[tuple[list[int], int]]) -> float:
        """Seconds: weights once a step until the longest answer ends, and each answer's context."""
        weights = max(output for _, output in work) * self.weight_bytes
        seen = sum(len(prompt) * out + out * (out - 1) // 2 for prompt, out in work)
        return (weights + seen * self.kv_bytes) / self.bandwidth


def nano_vllm(num_sequences: int) -> Iterator[tuple[list[int], int]]:
    """(prompt, number of output tokens) of nano-vllm's `bench.py`: its seed, its order of draws.

    Its 256 sequences have 142,827 prompt tokens and 133,966 output tokens.
    """
    draw = random.Random(0)
    prompts = [
        [draw.randint(0, 10000) for _ in range(draw.randint(100, 1024))]
        for _ in range(num_sequences)
    ]
    yield from ((prompt, draw.randint(100, 1024)) for prompt in prompts)


def checked(core: EngineCore) -> list[StepOutput]:
    """One step's outputs. Raises RuntimeError if a request failed: its time would be no time."""
    outputs = core.step()
    for output in outputs:
        if output.finish_reason is FinishReason.ERROR:
            raise RuntimeError(f"The engine failed: {output.error}")
    return outputs


def run(plan: Plan) -> Iterator[str]:
    """Lines for a person as they come to be; the last is JSON."""
    with torch.inference_mode():
        bench = Bench(plan)
        where = torch.cuda.get_device_name(bench.device) if bench.is_cuda else "cpu"
        dtype = str(bench.dtype).removeprefix("torch.")
        yield (
            f"{plan.shape} {dtype} on {where}, torch {torch.__version__}: weights "
            f"{bench.weight_bytes / 1e9:.3f} GB a step, KV {bench.kv_bytes:,} B a token, "
            f"memory {bench.bandwidth / 1e9:,.1f} GB/s"
        )
        cells = []
        for context in plan.contexts:
            for batch in plan.batches:
                cells.append(cell := bench.cell(batch, context))
                yield (
                    f"batch {cell.batch:4}  context {cell.context:6}  {cell.step_ms:9.3f} ms a step"
                    f"  {cell.tokens_per_second:10,.1f} tok/s  {cell.share_of_floor:5.1%} of floor"
                    + ("" if cell.gpu_idle_share is None else f"  {cell.gpu_idle_share:5.1%} idle")
                )
        prefills = []
        for length in plan.prefills:
            prefills.append(prompt := bench.prefill(length))
            yield (
                f"prompt {prompt.tokens:6}  {prompt.step_ms:9.3f} ms  "
                f"{prompt.tokens_per_second:10,.1f} tok/s  "
                f"{prompt.operations_per_second / 1e12:.2f} TFLOP/s, "
                f"{prompt.share_of_matmul:.1%} of a large product"
            )
        work = bench.workload(plan.workload) if plan.workload else None
        if work:
            yield (
                f"nano-vllm workload: {work.output_tokens:,} tokens in {work.seconds:.2f} s, "
                f"{work.output_tokens_per_second:,.1f} tok/s, {work.share_of_floor:.1%} of floor"
            )
        yield json.dumps(
            {
                "benchmark": "engine",
                "date": time.strftime("%Y-%m-%d"),
                "shape": plan.shape,
                "dtype": dtype,
                "device": where,
                "torch": torch.__version__,
                "attention": type(bench.model.backend).__name__,
                "is_ahead": bench.is_ahead,
                "is_deterministic": plan.is_deterministic,
                "threads": torch.get_num_threads(),
                "bandwidth": bench.bandwidth,
                "is_bandwidth_measured": plan.bandwidth is None,
                "cells": [asdict(cell) for cell in cells],
                "quantize": bench.quantize,
                "kv_dtype": str(bench.kv_dtype).removeprefix("torch."),
                "weight_bytes": bench.weight_bytes,
                "matmul_rate": bench.matmul_rate if prefills else None,
                "prefills": [asdict(prefill) for prefill in prefills],
                "workload": asdict(work) if work else None,
            }
        )
