"""Layers that keep a state, in an engine that runs ahead: what a step goes on from was moved when
the step before was launched, and a decode step's rows of states stand on the device."""

import random
from collections.abc import Callable
from functools import cache

import pytest
import torch
from msgspec import structs

from tests.engine.execution.request_mixes import Answer, answers, make_core
from tests.engine.run_ahead.engines import CountingLauncher, FixedShapes, Late, transformer_ahead
from tests.engine.toy import make_request
from tests.model.tiny import BESIDE, DELTA, HYBRID, MAMBA, random_model
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.state.state_cache import ZEROS
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.engine.run_ahead.cuda_graphs import rerun
from thirdeye.server.engine.run_ahead.cuda_stream import CpuStream
from thirdeye.server.engine.run_ahead.device_state import SlotField
from thirdeye.server.engine.scheduling.sequence_states import SequenceStates

CONTEXT, BLOCK = 64, 4
MODELS = {"short convolution": HYBRID, "delta net": DELTA, "mamba": MAMBA, "beside": BESIDE}
SLOW = set(MODELS) - {"delta net"}  # in triton's interpreter
STREAMS = {"at once": CpuStream, "late": Late}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Transformer:
    torch.set_num_threads(1)
    return random_model(MODELS[request.param], FixedShapes())


def config_of(**sizes: object) -> EngineConfig:
    defaults: dict[str, object] = {
        "max_model_len": CONTEXT,
        "num_blocks": 22,
        "block_size": BLOCK,
        "steps_ahead": 1,
        "max_num_seqs": 5,
        "max_num_batched_tokens": 16,
        "num_states": 8,
    }
    return EngineConfig(**(defaults | sizes))  # type: ignore[arg-type]  # plain test sizes


def mix(seed: int, number: int, longest: int = 26) -> list[Request]:
    """Texts that begin alike, so that they go on from each other's snapshots."""
    chance = random.Random(seed)
    alike = [chance.randrange(97) for _ in range(12)]
    return [
        make_request(
            str(i),
            alike[: chance.choice([0, 4, 8, 12])]
            + [chance.randrange(97) for _ in range(chance.randint(1, 9))],
            max_tokens=chance.randint(1, longest),
            temperature=chance.choice([0.0, 0.8]),
            seed=chance.randrange(2**64),
            frequency_penalty=chance.choice([0.0, 0.0, 0.3]),
            logprobs=chance.choice([None, 2]),
            ignore_eos=True,
        )
        for i in range(number)
    ]


def states_of(core: EngineCore) -> SequenceStates:
    states = core._scheduler._states
    assert isinstance(states, SequenceStates)
    return states


@pytest.fixture(scope="module")
def plainly(model: Transformer) -> Callable[[int], dict[str, Answer]]:
    """What the plain loop answers to the mix of a seed; asked once for both streams."""

    @cache
    def answered(seed: int) -> dict[str, Answer]:
        return answers(make_core(model, max_model_len=CONTEXT, num_blocks=40), mix(seed, 7))

    return answered


@pytest.mark.parametrize("stream", STREAMS)
def test_answers_are_the_plain_ones(
    model: Transformer, plainly: Callable[[int], dict[str, Answer]], stream: str
) -> None:
    """Starved of blocks and of rows of states: who is preempted begins again, snapshots are kept,
    gone on from and lost, and what a step in flight holds is given back however its rows end."""
    core, launcher = transformer_ahead(model, config_of(), rerun, STREAMS[stream]())
    for seed in range(2):
        assert answers(core, mix(seed, 7)) == plainly(seed)
    stats = core.stats()
    assert stats.preemptions_total > 0
    assert stats.snapshot_hits_total > 0
    assert launcher.num_decodes > 20
    assert launcher.num_refused == 0
    states_of(core).check_all_free()


def test_aborts_and_steps_that_are_not_launched_ahead_leave_nothing(model: Transformer) -> None:
    """Embeddings among them, whose steps are run when all in flight were read."""
    core, _ = transformer_ahead(model, config_of(), rerun, CpuStream())
    chance = random.Random(5)
    requests = mix(3, 8)
    requests[4] = structs.replace(
        requests[4],
        is_embedding=True,
        sampling=structs.replace(requests[4].sampling, max_tokens=0, logprobs=None),
    )
    for request in requests:
        core.add(request)
    for _ in range(40):
        core.step()
        core._scheduler.check_integrity()
        if chance.random() < 0.15:
            core.abort(str(chance.randrange(8)))
    core.abort_all()
    core.step()
    assert not core.has_work
    states_of(core).check_all_free()


def running(model: Transformer, num_rows: int) -> tuple[EngineCore, CountingLauncher]:
    core, launcher = transformer_ahead(
        model, config_of(enable_prefix_caching=False), rerun, CpuStream()
    )
    for i in range(num_rows):
        core.add(make_request(str(i), [i + 1, 5], max_tokens=30, ignore_eos=True))
    for _ in range(3):
        core.step()
    return core, launcher


def test_rows_that_fill_a_bucket_write_scrap_alone(model: Transformer) -> None:
    """And a steady step, which keeps no snapshot, is told nothing of states."""
    _, launcher = running(model, num_rows=3)
    table, scrap = launcher.state.table, launcher.state.num_slots
    assert table[scrap, SlotField.STATE_SOURCE] == ZEROS
    assert table[scrap, SlotField.STATE_TARGET] == config_of().num_states
    told = [state.state_rows for state in launcher._slots._states.values()]
    assert len(told) == 3
    assert all(rows is not None and rows[0] == rows[1] for rows in told)


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
    for module in ("decode_step", "device_sampler"):
        name = f"thirdeye.server.engine.run_ahead.{module}.can_fuse"
        monkeypatch.setattr(name, lambda device: True)


@pytest.mark.usefixtures("by_kernels")
@pytest.mark.parametrize(
    "name", ["delta net", *[pytest.param(n, marks=pytest.mark.prove) for n in sorted(SLOW)]]
)
def test_by_a_gpus_kernels_they_are_the_eager_steps(name: str) -> None:
    """In triton's interpreter: a model of a GPU's parts, its decode steps by `begin_step`, which
    says from which rows into which, against steps that the host prepares."""
    attention = TritonAttention(num_multiprocessors=2)
    model = random_model(MODELS[name], attention, is_fused=True)
    requests = [
        structs.replace(r, sampling=structs.replace(r.sampling, max_tokens=4))
        for r in mix(11, 2, longest=4)
    ]
    core, launcher = transformer_ahead(model, config_of(max_num_seqs=2), rerun, CpuStream())
    expected = answers(make_core(model, max_model_len=CONTEXT, num_blocks=40), requests)
    for name, said in answers(core, requests).items():
        assert said[0] == expected[name][0]
        for ours, eager in zip(said[1] or [], expected[name][1] or [], strict=True):
            assert ours.logprob == pytest.approx(eager.logprob, abs=1e-5)  # of other batches
    assert launcher.num_decodes > 1
