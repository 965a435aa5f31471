"""An engine as on a GPU, over the fake driver: fused parts, triton's attention, captured steps.

Kernels write nothing, so what they should have written is whatever was there: every row is at its
first position, logits are made zeros, and each token is token 0. Who is in a step, how many rows
and tokens it has and which kernels it asks for is all as served.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tests.fake_gpu.driver import Notes
from tests.fake_gpu.forms import ServedForm
from tests.recipes import make_recipe
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.warmup import prompt_lengths, warm_up
from thirdeye.server.engine.drafting.draft_ahead import DraftAhead
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.sampling.sampler import sample
from thirdeye.server.engine.scheduling.speculation.proposer import NoGuesses
from thirdeye.server.load import overlap
from thirdeye.server.load.drafting import load_draft
from thirdeye.server.load.drafting.guesser import MadeGuesser
from thirdeye.server.load.kv_memory import try_step

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MULTIPROCESSORS = 132
BYTES_OF_A_DRAFT = 1 << 24  # for its keys and values
CAN_FUSE = (
    "model.placement",
    "model.transformer",
    "server.engine.sampling.philox",
    "server.engine.sampling.sampler",
    "server.engine.run_ahead.decode_step",
    "server.engine.run_ahead.device_sampler",
)


class Zeros(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.zeros_like(logits)


@dataclass
class GraphMemory:
    """A device's, of which graphs alone take any."""

    total: int = 1 << 40
    others: int = 0
    allocated: int = 0

    def release(self) -> None: ...

    def reset_peak(self) -> None: ...

    @property
    def peak(self) -> int:
        return self.allocated


@dataclass
class Captures:
    """In the place of `CudaCapture`: a capture runs what it captures, takes a byte, is counted."""

    memory: GraphMemory = field(default_factory=GraphMemory)
    count: int = 0

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        self.count += 1
        step()
        self.memory.allocated += 1
        return step


@dataclass(slots=True)
class FakeEngine:
    core: EngineCore
    launcher: Launcher
    captures: Captures
    num_captured: int  # forms of kernels by the captures
    num_warmed: int  # by all that comes before the first request


def pretending() -> ExitStack:
    """As if tensors of a CPU were on a GPU, for all that asks."""
    stack = ExitStack()
    for module in CAN_FUSE:
        stack.enter_context(patch(f"thirdeye.{module}.can_fuse", lambda device: True))
    for module in ("weight_only", "choose_method"):
        sizes = f"thirdeye.model.linear.{module}.num_multiprocessors"
        stack.enter_context(patch(sizes, lambda device: MULTIPROCESSORS))
    launch = "thirdeye.model.kernels.dependent_launch.has_dependent_launch"
    stack.enter_context(patch(launch, lambda device: True))
    return stack


def make_model(form: ServedForm, device: torch.device = CPU) -> Transformer:
    """Weights are what was there."""
    model = Transformer(
        form.config,
        TritonAttention(
            num_multiprocessors=MULTIPROCESSORS, is_deterministic=form.is_deterministic
        ),
        dtype=torch.bfloat16,
        device=device,
        quantize=form.quantize,
        is_fused=True,
        is_deterministic=form.is_deterministic,
    )
    for parameter in model.parameters():
        parameter.zero_()
    model.finish()
    return model


def stand_in(name: str, arguments: tuple[Any, ...]) -> None:
    """Writes what the host, or torch on a CPU, could not do without."""
    if name == "begin_step_kernel":
        for tensor in arguments[:6]:
            tensor.zero_()
        if isinstance(spans := arguments[12], Tensor):
            spans.zero_()
    if name == "choose_tokens_kernel":
        arguments[0][:] = torch.tensor([1, 0])  # a number, and the token 0


def graphs_of_the_trial(form: ServedForm) -> int:
    """How many a trial has found the memory of, before there is one for keys and values."""
    model = make_model(form)
    model._logit_shape = Zeros()
    recipe = make_recipe(
        cuda_graphs="on",
        max_num_seqs=form.max_num_seqs,
        max_num_batched_tokens=form.max_num_batched_tokens,
        max_model_len=form.max_model_len,
        speculation="ngram" if form.num_draft_tokens else "off",
    )
    captures = Captures()
    draft = make_draft(form) if form.is_drafted else None
    with capturing(captures):
        usage = try_step(recipe, model, form.kv_dtype, CPU, captures.memory, guesser=draft)
    assert usage.step + usage.captured >= captures.count, "a graph has memory that was not counted"
    return captures.count


def capturing(captures: Captures) -> ExitStack:
    """In the place of graphs, of both models."""
    stack = ExitStack()
    for module in (overlap, load_draft):
        stack.enter_context(patch.object(module, "choose_capture", lambda device: captures))
    return stack


def make_draft(form: ServedForm) -> load_draft.LoadedDraft:
    """Of the same form; it never finds that it takes too long."""
    model = make_model(form)
    model._logit_shape = Zeros()
    load_draft.prompt_lengths = lambda _, most: prompt_lengths(CUDA, most)  # type: ignore[attr-defined]
    load_draft.DraftAhead = partial(DraftAhead, clock=lambda: 0.0)  # type: ignore[attr-defined]
    checkpoint: Any = None  # whose name nobody asks
    return load_draft.LoadedDraft(checkpoint, model, form.config.vocab_size, form.kv_dtype, CPU)


def make_engine(form: ServedForm, notes: Notes) -> FakeEngine:
    """Up to where the first request may come; as `load_engine` does it."""
    before = len(notes.forms)
    notes.on_launch = stand_in
    model = make_model(form)
    model._logit_shape = Zeros()
    config = EngineConfig(
        max_model_len=form.max_model_len,
        num_blocks=3000,
        block_size=16,
        max_num_seqs=form.max_num_seqs,
        max_num_batched_tokens=form.max_num_batched_tokens,
        enable_prefix_caching=True,
        steps_ahead=1,
        num_draft_tokens=form.num_draft_tokens,
        num_states=3 * form.max_num_seqs if form.config.state else 0,
    )
    blocks = config.num_blocks + overlap.SCRAP_BLOCKS
    states = overlap.num_state_rows(config.num_states, is_ahead=True)
    cache = make_kv_cache(form.config, blocks, config.block_size, form.kv_dtype, CPU, states)
    captures = Captures()
    made = MadeGuesser(NoGuesses())
    with capturing(captures):
        if form.is_drafted:
            made = make_draft(form).make(config, BYTES_OF_A_DRAFT, sample)
        launcher = overlap.make_launcher(model, cache, config, CPU, guesses=made.on_device)
    captured = len(notes.forms) - before
    runner = ModelRunner(model, cache, config, CPU)
    warm_up(runner, config, prompt_lengths(CUDA, config.max_num_batched_tokens))
    proposer = made.proposer if form.is_drafted else None
    core = EngineCore(config, runner, launcher=launcher, proposer=proposer)
    return FakeEngine(core, launcher, captures, captured, len(notes.forms) - before)
