"""`thirdeye bench engine`: the engine in this process, without HTTP, text or a real model.

A composition root like `server/load/load_engine.py`. Weights are random, N(0, 0.02): zeros would
make matrix products faster than they are. Steps go through the scheduler, the runner and the
sampler, as they do when serving. Each time is held against the memory floor: the bytes that a step
cannot do without reading (every weight but the embedding tables once, and the keys and values of
the batch), divided by the memory's bandwidth, which is measured by a copy unless it is given.
"""

import gc
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from thirdeye.model.state.choose_kv import choose_kv_dtype, make_kv_cache
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.bench.device import (
    measure_bandwidth,
    measure_matmul,
    now,
    profiled_busy_seconds,
    stored_bytes,
)
from thirdeye.server.bench.random_model import place, random_model
from thirdeye.server.bench.report import Cell, Plan, Prefill, Workload
from thirdeye.server.bench.workloads import (
    nano_vllm,
    prefill_operations,
    read_shape,
    weight_bytes_per_step,
)
from thirdeye.server.engine.cache.kv_budget import kv_budget
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE, EngineConfig
from thirdeye.server.engine.interface.types import FinishReason, Request, SamplingParams, StepOutput
from thirdeye.server.load.engine_info import linear_methods
from thirdeye.server.load.overlap import SCRAP_BLOCKS, make_launcher, num_state_rows, runs_ahead


class EngineBench:
    """One model, and an engine around it for each measurement."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config = read_shape(plan.shape)
        self.where = place(plan)
        self.device, self.dtype = self.where.device, self.where.dtype
        self.kv_dtype = choose_kv_dtype(
            plan.kv_dtype, plan.attention, self.dtype, self.device, self.where.quantize
        )
        self.model = random_model(self.config, plan.attention, self.where)
        self.is_ahead = runs_ahead(
            plan.cuda_graphs,
            self.device,
            self.model.backend,
        )
        self.bandwidth = plan.bandwidth or measure_bandwidth(self.device)
        self.weight_bytes = weight_bytes_per_step(self.config, self.dtype)
        if self.where.quantize != "none":
            self.weight_bytes = stored_bytes(self.model)
        self.block_bytes = kv_bytes_per_block(self.config, BLOCK_SIZE, self.kv_dtype)
        self.kv_bytes = self.block_bytes // BLOCK_SIZE  # of one token

    def engine(
        self,
        max_num_seqs: int,
        num_tokens: int,
        longest: int,
        num_batched_tokens: int = 0,
        num_draft_tokens: int = 0,
    ) -> EngineCore:
        """KV for `num_tokens`, as far as the memory holds them: more are preempted, as served.
        `num_draft_tokens`: guesses from the text for each sequence in a step, at the most.

        An engine refers to itself, so the one before is in memory until it is looked for.
        """
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()
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
            num_states=max(2, max_num_seqs) if self.config.state else 0,
            steps_ahead=int(self.is_ahead),
            num_draft_tokens=num_draft_tokens,
        )
        num_blocks = config.num_blocks + SCRAP_BLOCKS * self.is_ahead
        cache = make_kv_cache(
            self.config,
            num_blocks,
            BLOCK_SIZE,
            self.kv_dtype,
            self.device,
            num_state_rows(config.num_states, is_ahead=self.is_ahead),
        )
        runner = ModelRunner(self.model, cache, config, self.device)
        if not self.is_ahead:
            return EngineCore(config, runner)
        launcher = make_launcher(self.model, cache, config, self.device)
        return EngineCore(config, runner, launcher=launcher)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.is_cuda else "cpu"

    def head(self) -> Iterator[str]:
        """What is measured, and what it is held against."""
        on = f"{self.device_name}" + (
            "" if self.is_cuda else f", {torch.get_num_threads()} threads"
        )
        kept = "+".join(linear_methods(self.model))
        how = f"{type(self.model.backend).__name__}, {kept}" + (", graphs" if self.is_ahead else "")
        dtype = str(self.dtype).removeprefix("torch.")
        yield f"{self.plan.shape} {dtype} on {on}, torch {torch.__version__}: {how}"
        yield (
            f"A step reads {self.weight_bytes / 1e9:.3f} GB of weights, and {self.kv_bytes:,} B of "
            f"keys and values for each token; the memory copies {self.bandwidth / 1e9:,.1f} GB/s."
        )

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "benchmark": "engine",
            "date": time.strftime("%Y-%m-%d"),
            "shape": self.plan.shape,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device_name,
            "torch": torch.__version__,
            "attention": type(self.model.backend).__name__,
            "linear": linear_methods(self.model),
            "is_ahead": self.is_ahead,
            "is_deterministic": self.plan.is_deterministic,
            "threads": torch.get_num_threads(),
            "bandwidth": self.bandwidth,
            "is_bandwidth_measured": self.plan.bandwidth is None,
            "quantize": self.where.quantize,
            "kv_dtype": str(self.kv_dtype).removeprefix("torch."),
            "weight_bytes": self.weight_bytes,
        }

    def cell(self, batch: int, context: int) -> Cell:
        """The context is reached in the middle of the timed steps."""
        core = self.decoding(batch, context)
        times = [self.timed_step(core) for _ in range(self.plan.steps)]
        step = statistics.median(times)
        floor = (self.weight_bytes + batch * context * self.kv_bytes) / self.bandwidth
        core.abort_all()
        return Cell(batch, context, 1e3 * step, batch / step, 1e3 * floor, floor / step, None)

    def decoding(self, batch: int, context: int) -> EngineCore:
        """An engine whose prompts are computed: every step gives every row a token."""
        prompt = max(1, context - self.plan.steps // 2)
        answer = self.plan.steps + 4
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
        while computed < batch:
            computed += sum(bool(output.token_ids) for output in checked(core))
        return core

    def profiled(self, cell: Cell) -> Cell:
        """With the share in which no kernel runs: kernels' time from profiled steps, the steps' own
        from the cell. A profiler stays attached, so nothing is timed behind this."""
        core = self.decoding(cell.batch, cell.context)

        def work() -> None:
            for _ in range(self.plan.steps):
                checked(core)

        busy = profiled_busy_seconds(work, self.device)
        core.abort_all()
        if busy is None:
            return cell
        return replace(
            cell, gpu_idle_share=max(0.0, 1 - 1e3 * busy / self.plan.steps / cell.step_ms)
        )

    def prefill(self, length: int, repeats: int = 3) -> Prefill:
        """The least of a few prompts' only steps, behind one that is not timed. The token that a
        prompt gives is not computed any further: it may be one too many for the context."""
        if length > self.config.max_position_embeddings:
            limit = self.config.max_position_embeddings
            raise ValueError(f"'--prefill' must be at most {limit} for this shape, got {length}.")
        seconds = []
        for i in range(1 + repeats):
            core = self.engine(1, length + 1, length + 1, num_batched_tokens=length)
            core.add(self.request(i, self.prompt(random.Random(i), length), 1))
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


def checked(core: EngineCore) -> list[StepOutput]:
    """One step's outputs. Raises RuntimeError if a request failed: its time would be no time."""
    outputs = core.step()
    for output in outputs:
        if output.finish_reason is FinishReason.ERROR:
            raise RuntimeError(f"The engine failed: {output.error}")
    return outputs
