"""Engines that run ahead, on the CPU: a stream that is as late as a GPU can be, an attention of
fixed shapes, and builders."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from msgspec import structs
from torch import Tensor

from tests.engine.grammar.toy_grammars import ImmediateExecutor as Immediate
from tests.engine.toy import VOCAB, ToyCache, ToyModel, toy_config, toy_inspect
from thirdeye.model.attention.blocked import KEY_BLOCK, BlockedAttention, Tile
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import CompileGrammar
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, rerun
from thirdeye.server.engine.run_ahead.cuda_stream import (
    CpuStream,
    DeviceStream,
    PendingResult,
    Work,
)
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.launcher import DeviceGuesses, Launcher
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.server.engine.scheduling.step_plan import StepPlan
from thirdeye.server.load.overlap import num_state_rows

CPU = torch.device("cpu")


class Late:
    """Nothing is done before somebody waits for it: whatever the host changes in between, shows."""

    def __init__(self) -> None:
        self._todo: deque[LateResult] = deque()

    def run(self, work: Callable[[], object]) -> None:
        self._todo.append(LateResult(self, partial(nothing_of, work)))

    def submit(self, work: Work) -> PendingResult:
        pending = LateResult(self, work)
        self._todo.append(pending)
        return pending

    def flush(self) -> None:
        while self._todo:
            self._todo.popleft().run()

    def advance(self, pending: "LateResult") -> None:
        """In order, up to this one."""
        while not pending.is_done:
            self._todo.popleft().run()


def nothing_of(work: Callable[[], object]) -> Tensor:
    work()
    return torch.empty(0)


class LateResult:
    def __init__(self, stream: Late, work: Work) -> None:
        self._stream, self._work = stream, work
        self._result: Tensor | Exception | None = None

    @property
    def is_done(self) -> bool:
        return self._result is not None

    def run(self) -> None:
        try:
            with torch.inference_mode():
                self._result = self._work().clone()
        except Exception as error:
            self._result = error

    def wait(self) -> Tensor:
        self._stream.advance(self)
        assert self._result is not None
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@dataclass(frozen=True, slots=True)
class InOrder:
    """A runner whose steps go behind all that was launched, as on a GPU's one stream."""

    runner: ModelRunner
    stream: DeviceStream

    def run(self, plan: StepPlan) -> StepResult:
        if isinstance(self.stream, Late):
            self.stream.flush()
        return self.runner.run(plan)


class CountingLauncher(Launcher):
    """Counts steps, and checks its slots at each."""

    num_launched = num_decodes = num_refused = num_verified = 0

    def can_launch(self, plan: StepPlan) -> bool:
        can = super().can_launch(plan)
        self.num_refused += not can
        return can

    def launch(self, plan: StepPlan) -> LaunchedStep:
        step = super().launch(plan)
        self._slots.check_integrity()
        self.num_launched += 1
        self.num_verified += any(row.draft_token_ids for row in plan.rows)
        self.num_decodes += all(row.num_scheduled_tokens == 1 for row in plan.rows)
        return step


def toy_ahead(
    config: EngineConfig | None = None,
    model: ToyModel | None = None,
    stream: DeviceStream | None = None,
    capture: Capture = rerun,
    compile_grammar: CompileGrammar | None = None,
    proposer: Proposer | None = None,
    guesses: DeviceGuesses | None = None,
) -> tuple[EngineCore, CountingLauncher]:
    """An engine over the toy model, which runs ahead."""
    config, model = structs.replace(config or toy_config(), steps_ahead=1), model or ToyModel()
    cache = ToyCache(config.num_blocks + 1, config.block_size)
    stream = stream or CpuStream()
    runner = InOrder(ModelRunner(model, cache, config, CPU), stream)
    launcher = CountingLauncher(
        lambda batch: model(batch, cache), config, VOCAB, CPU, capture, stream, guesses=guesses
    )
    grammars = GrammarCompiler(compile_grammar, Immediate()) if compile_grammar else None
    core = EngineCore(
        config,
        runner,
        inspect=toy_inspect,
        grammars=grammars,
        launcher=launcher,
        proposer=proposer,
    )
    return core, launcher


def transformer_ahead(
    model: Transformer,
    config: EngineConfig,
    capture: Capture,
    stream: DeviceStream,
    proposer: Proposer | None = None,
    guesses: DeviceGuesses | None = None,
) -> tuple[EngineCore, CountingLauncher]:
    """The same over a fp32 transformer."""
    groups = kv_groups(model.config) if config.windows != (0,) else None
    cache = KVCache(
        model.config,
        config.num_blocks + 1,
        config.block_size,
        torch.float32,
        CPU,
        num_state_rows(config.num_states, is_ahead=True),
        groups=groups,
    )
    runner = ModelRunner(model, cache, config, CPU)
    forward: Callable[[ForwardBatch], Tensor] = (  # noqa: E731
        lambda batch: model.logits_as_computed(batch, cache)
    )
    vocab_size = model.config.vocab_size
    launcher = CountingLauncher(
        forward,
        config,
        vocab_size,
        CPU,
        capture,
        stream,
        look_up=model.look_up(),
        guesses=guesses,
    )
    return EngineCore(config, runner, launcher=launcher, proposer=proposer), launcher


class FixedShapes(BlockedAttention):
    """`BlockedAttention`, whose decode steps never ask how long a sequence is.

    Each row looks at as many keys as its block table could hold. Keys it does not see add exactly
    0, so its bits are those of its base class.
    """

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> list[Tile]:
        num_rows, max_blocks = batch.block_table.shape
        if len(batch.positions) != num_rows:
            return super().plan(batch, kv_cache)
        block_size, num_kv_heads = kv_cache.keys[0].shape[1:3]
        num_keys = -(-max_blocks * block_size // KEY_BLOCK) * KEY_BLOCK
        positions = torch.arange(num_keys)  # [L]
        ends = batch.seq_lens.long()[:, None]  # [S, 1]
        is_hidden = positions >= ends  # [S, L]
        if self._spec.window is not None:
            is_hidden = is_hidden | (positions < ends - self._spec.window)
        present = (ends - 1).where(is_hidden, positions)
        blocks = batch.block_table.gather(1, present // block_size).long()
        slots = blocks * block_size + present % block_size
        heads = torch.arange(num_kv_heads)[:, None]
        return [
            Tile(
                rows=torch.arange(num_rows)[:, None],
                keys=(slots[:, None] * num_kv_heads + heads).flatten(),
                is_hidden=is_hidden[:, None, None, None],
                distances=None,
            )
        ]
