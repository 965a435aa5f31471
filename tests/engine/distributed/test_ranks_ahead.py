"""A loop that runs ahead on two ranks: both are told the same and choose the same, no token
crosses, and one that is lost, or has captured something else, is the end of the engine.

Ranks are threads here, over gloo; real processes are in `test_ranks.py`. What meets in a graph is
noted by a communicator that stands where NCCL's would.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from tests.engine.distributed.test_rank_group import SECONDS, FakeRankGroup, RankThread
from tests.engine.execution.request_mixes import Answer, answers, make_core
from tests.engine.grammar.toy_grammars import ImmediateExecutor as Immediate
from tests.engine.grammar.toy_grammars import guidance
from tests.engine.run_ahead.engines import Late
from tests.engine.run_ahead.test_decode_step import mix
from tests.model.parallel.test_parallel import WIDE, on_ranks, share_of
from tests.model.tiny import CPU, HYBRID, random_model
from thirdeye.model.config import ModelConfig
from thirdeye.model.parallel.shares import ALONE, Ranks
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.profile_run import FixedKVBudget
from thirdeye.server.engine.distributed.distributed_loop import StepWatch
from thirdeye.server.engine.distributed.loop_messages import Captured, Prepare
from thirdeye.server.engine.distributed.rank_messages import InitCache, ToRank
from thirdeye.server.engine.distributed.rank_worker import RankModel, RankWorker
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream, DeviceStream, wait_for
from thirdeye.server.engine.run_ahead.device_loop import LoopSizes
from thirdeye.server.engine.run_ahead.launcher import Launcher

__all__ = ["on_ranks"]  # a fixture

NUM_REQUESTS = 4
HYBRID_WIDE = replace(
    WIDE,
    num_hidden_layers=3,
    state=HYBRID.state,
    state_layers=HYBRID.state_layers,
)


def config_of(**sizes: object) -> EngineConfig:
    defaults: dict[str, object] = {
        "max_model_len": 64,
        "num_blocks": 18,
        "block_size": 4,
        "max_num_seqs": 5,
        "max_num_batched_tokens": 24,
        "steps_ahead": 1,
    }
    return EngineConfig(**(defaults | sizes))  # type: ignore[arg-type]  # plain test sizes


@dataclass
class NotedRanks:
    """In the place of NCCL's communicator: its sums and gathers, and what each was part of."""

    ranks: Ranks
    notes: list[tuple[object, ...]] = field(default_factory=list)
    part: str = "eager"
    num_captures: int = 0

    @property
    def rank(self) -> int:
        return self.ranks.rank

    @property
    def size(self) -> int:
        return self.ranks.size

    def add_up(self, x: Tensor) -> Tensor:
        self.notes.append((self.part, "sum", *x.shape))
        return self.ranks.add_up(x)

    def gather(self, x: Tensor, dim: int) -> Tensor:
        self.notes.append((self.part, "gather", *x.shape[:-1]))  # shares may differ in width
        return self.ranks.gather(x, dim)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """A capture runs what it captures, and a replay does that again, known as one."""
        self.num_captures += 1
        number = self.num_captures

        def run(part: str) -> None:
            self.part = f"{part} of {number}"
            step()
            self.part = "eager"

        run("capture")
        return lambda: run("replay")


class Line(RankThread):
    """The way to rank 1; what was told is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[ToRank] = []

    def broadcast(self, message: ToRank) -> None:
        """As it crosses."""
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ToRank)
        self.told.append(again)
        super().broadcast(again)


@dataclass
class Seen:
    """Of one rank."""

    noted: NotedRanks
    table: Tensor  # what its device knows at the end
    said: list[dict[str, Answer]]
    num_prepared: int = 0  # captures before the first request


def rank_model(model: Transformer) -> RankModel:
    return RankModel(model, CPU, torch.float32, FixedKVBudget(0))


def lead(
    model: Transformer, noted: NotedRanks, line: Line, config: EngineConfig, stream: DeviceStream
) -> Seen:
    """Rank 0, as `load_engine` makes it."""
    group = FakeRankGroup(line, noted)
    loop = LoopSizes.of(config, config.max_model_len)
    num_states = config.num_states + 1 if config.num_states else 0
    group.init_caches(config.num_blocks + 1, config.block_size, num_states=num_states, loop=loop)
    sizes = line.told[0]
    assert isinstance(sizes, InitCache)
    cache = rank_model(model).make_cache(sizes)
    launcher = Launcher(
        lambda batch: model.logits_as_computed(batch, cache),
        config,
        model.config.vocab_size,
        CPU,
        noted.capture,
        stream,
        look_up=model.look_up(),
        share=lambda own: group.share_loop(own, CPU),
    )
    launcher.prepare()
    num_prepared = noted.num_captures
    core = EngineCore(config, ModelRunner(group.wrap(model), cache, config, CPU), launcher=launcher)
    core._grammars = GrammarCompiler(guidance(WIDE.vocab_size).compile, Immediate())
    said = [answers(core, mix(seed, NUM_REQUESTS)) for seed in range(2)]
    line.inbox.put(None)  # type: ignore[arg-type]  # the end
    return Seen(noted, launcher.state.table.clone(), said, num_prepared)


def follow(model: Transformer, noted: NotedRanks, line: Line) -> Seen:
    own = replace(rank_model(model), make_capture=lambda device: noted.capture)
    worker = RankWorker(own, line.outbox.put)
    while (message := line.inbox.get(timeout=SECONDS)) is not None:
        worker.handle(message)
    assert worker._loop is not None
    return Seen(noted, worker._loop.state.table.clone(), [])


def on_two(
    on_ranks: Any, model: ModelConfig, config: EngineConfig, stream: DeviceStream, line: Line
) -> tuple[Seen, Seen]:
    def act(ranks: Ranks) -> Seen:
        noted = NotedRanks(ranks)
        share = share_of(model, noted)
        if ranks.rank == 0:
            return lead(share, noted, line, config, stream)
        return follow(share, noted, line)

    first, second = on_ranks(2, act)
    return first, second


@pytest.mark.parametrize("stream", [CpuStream, Late])
def test_both_choose_the_same_and_no_token_crosses(on_ranks: Any, stream: Any) -> None:
    """One rank's answers, and those of a leader that tells each batch: drawn, scored, biased and
    penalized rows, grammars among them, starved of blocks. Sums meet in the same order on both."""
    torch.set_num_threads(1)
    line = Line()
    first, second = on_two(on_ranks, WIDE, config_of(), stream(), line)
    plain = make_core(random_model(WIDE), max_model_len=64, num_blocks=40)
    plain._grammars = GrammarCompiler(guidance(WIDE.vocab_size).compile, Immediate())
    for seed, said in enumerate(first.said):
        expected = answers(plain, mix(seed, NUM_REQUESTS))
        assert {name: one[0] for name, one in said.items()} == {
            name: one[0] for name, one in expected.items()
        }
    assert torch.equal(first.table, second.table), "a rank has chosen something else"
    assert first.noted.notes == second.noted.notes
    parts = [str(note[0]) for note in first.noted.notes]
    assert sum(part.startswith("replay") for part in parts) > 100
    assert first.noted.num_captures == first.num_prepared == second.noted.num_captures
    assert isinstance(line.told[1], Prepare)


def test_states_move_on_both(on_ranks: Any) -> None:
    """Layers that keep a state, dealt out: words of rows of states cross with the others."""
    torch.set_num_threads(1)
    first, second = on_two(on_ranks, HYBRID_WIDE, config_of(num_states=8), CpuStream(), Line())
    plain = make_core(random_model(HYBRID_WIDE), max_model_len=64, num_blocks=40)
    plain._grammars = GrammarCompiler(guidance(WIDE.vocab_size).compile, Immediate())
    for seed, said in enumerate(first.said):
        expected = answers(plain, mix(seed, NUM_REQUESTS))
        assert [one[0] for one in said.values()] == [one[0] for one in expected.values()]
    assert torch.equal(first.table, second.table)


def test_other_captures_are_told() -> None:
    """In another order, or fewer: their sums would wait for each other for ever."""
    line = Line()
    group: Any = FakeRankGroup(line, ALONE)
    for theirs in (["2 rows", "1 rows"], ["1 rows"]):
        line.outbox.put(Captured(theirs))
        with pytest.raises(EngineDead, match="Rank 1 has captured other steps than rank 0"):
            group.compare_captures(["1 rows", "2 rows"])
    line.outbox.put(Captured(["1 rows", "2 rows"]))
    group.compare_captures(["1 rows", "2 rows"])


@dataclass
class FakeEvent:
    """Of a step that is done when `clock` says so."""

    clock: list[float]
    done_at: float
    is_recorded: bool = False

    def record(self) -> None:
        self.is_recorded = True

    def query(self) -> bool:
        return self.clock[0] >= self.done_at


def test_a_step_that_is_not_done_in_time_is_the_end() -> None:
    """Whoever waits counts the seconds, as the device does not."""
    clock = [0.0]

    def wait(seconds: float) -> None:
        clock[0] += max(seconds, 0.5)

    wait_for(FakeEvent(clock, done_at=59.0), 60.0, lambda: clock[0], wait)
    assert 59 <= clock[0] < 60
    with pytest.raises(EngineDead, match="has not finished a step for 60 seconds"):
        wait_for(FakeEvent(clock, done_at=1e9), 60.0, lambda: clock[0], wait)
    assert clock[0] < 121


def test_a_rank_that_follows_looks_at_the_step_before() -> None:
    """It reads nothing itself, and is one step ahead at the most."""
    clock = [0.0]
    events = [FakeEvent(clock, done_at) for done_at in (0.0, 1e9, 0.0)]
    coming = iter(events)
    watch = StepWatch(lambda: next(coming), timeout=0.0)
    watch.launched()
    watch.launched()  # the first is done, and nobody asks for this one yet
    with pytest.raises(EngineDead, match="another rank may be lost in it"):
        watch.launched()
    assert all(event.is_recorded for event in events)
    StepWatch(None, timeout=0.0).launched()  # work that is done at once
