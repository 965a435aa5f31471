"""Draft models whose own steps are launched, as those of a server that runs ahead."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.drafting.draft_ahead import DraftAhead
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, rerun
from thirdeye.server.engine.run_ahead.cuda_stream import DeviceStream
from thirdeye.server.engine.run_ahead.guessing.draft_rounds import DraftRounds, LaunchedSteps
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.scheduling.step_plan import StepPlan

CPU = torch.device("cpu")


class Untimed(DraftAhead):
    """Its guesses take no time, and each step of the target takes a second: no clock decides
    whether it rests."""

    def __init__(self, runner: Runner, config: EngineConfig) -> None:
        super().__init__(runner, config, clock=lambda: 0.0)

    def stepped(self, plan: StepPlan, result: StepResult) -> None:
        was_alone = result.forward_seconds > 0
        super().stepped(plan, replace(result, forward_seconds=float(was_alone), sample_seconds=0.0))


def launched_draft(
    forward: Callable[[ForwardBatch], Tensor],
    config: EngineConfig,
    vocab_size: int,
    stream: DeviceStream,
    otherwise: Runner,
    capture: Capture = rerun,
) -> tuple[Untimed, DraftRounds]:
    """`forward` has a cache of a block more than `config` says, and so has `otherwise`."""
    launcher = Launcher(forward, config, vocab_size, CPU, capture, stream)
    proposer = Untimed(LaunchedSteps(launcher, otherwise), config)
    return proposer, DraftRounds(launcher, proposer)
