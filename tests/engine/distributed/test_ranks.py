"""Tensor parallelism in the engine: two processes answer as one, and die as one.

A tiny checkpoint through the real worker, two ranks over gloo. The twin is the same recipe on one
rank, in this process. What each rank computes is held in `tests/model/parallel/test_parallel.py`,
the server around it in `tests/e2e/test_ranks.py`. To start two ranks takes long: those that have
answered are then ended, each in another way.
"""

import asyncio
import functools
import operator
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.e2e.procfs import is_running
from tests.engine.process.test_engines import endings
from tests.engine.toy import collect, make_request, tokens_of, until
from tests.model.steps import Row, make_batch
from tests.processor import needs_int8
from tests.recipes import make_recipe
from tests.tiny import tiny_llama
from tests.weights.adapters.peft_folder import linear_modules, random_pair, write_adapter
from thirdeye.model.batch import GroupBlocks
from thirdeye.model.state.state_cache import spans_in_order
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup
from thirdeye.server.engine.distributed.rank_messages import (
    Measure,
    Measured,
    pack_batch,
    unpack_batch,
)
from thirdeye.server.engine.distributed.rank_process import RANKS_FAILED
from thirdeye.server.engine.interface.adapters import AdapterSource
from thirdeye.server.engine.interface.interventions import EditSpec, SweepSpec
from thirdeye.server.engine.interface.trace import ARRAYS, ENDINGS, Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
    StepOutput,
)
from thirdeye.server.engine.process.frames import pack_frame
from thirdeye.server.engine.process.process_engine import ProcessEngine
from thirdeye.server.engine.process.spawn import spawn
from thirdeye.server.engine.process.thread_engine import ThreadEngine
from thirdeye.server.load import tensor_parallel
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.load_engine import load_engine

SLOW = 60.0  # seconds that a busy machine may take for what is a matter of two at rest
WORKER = [sys.executable, "-m", "thirdeye.server.load.engine_main"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(path)
    return path


KV_BYTES = 24 * 16 * 2 * 2 * 16 * 4  # of one rank, which has one KV head


def small_recipe(checkpoint: Path, **changes: Any) -> EngineRecipe:
    """Chunks, drafts and a small pool: 24 tokens a step, 24 blocks."""
    flags: dict[str, Any] = {
        "device": "cpu",
        "quantize": "none",
        "threads": 1,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 24,
        "max_model_len": 256,
        "kv_memory_bytes": KV_BYTES,
        "speculation": "ngram",
        "num_draft_tokens": 4,
    }
    return make_recipe(checkpoint, [2], **(flags | changes))


async def start(recipe: EngineRecipe, env: dict[str, str] | None = None) -> ProcessEngine:
    environment = {**os.environ, **(env or {})}  # noqa: TID251 (a child wants a whole one)
    return await ProcessEngine.start(spawn(WORKER, environment), msgspec.msgpack.encode(recipe))


@asynccontextmanager
async def two_ranks(
    recipe: EngineRecipe, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[ProcessEngine, int]]:
    """The engine, whose process is rank 0, and the process of rank 1."""
    engine = await start(recipe, env)
    try:
        (other,) = children(engine.pid)
        yield engine, other
    finally:
        await engine.close()


@asynccontextmanager
async def one_rank(recipe: EngineRecipe) -> AsyncIterator[ThreadEngine]:
    engine = ThreadEngine(*load_engine(recipe, lambda *_: None))
    try:
        yield engine
    finally:
        await engine.close()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def requests() -> list[Request]:
    """Long prompts with a beginning in common, greedy and drawn, scored and not, with something
    to draft, more than fit in the pool at once; and an embedding."""
    common = list(range(100, 140))
    many = [
        make_request(
            str(i),
            [*common, *[50 + i, 60 + i, 70 + i] * 6],
            max_tokens=40,
            ignore_eos=True,
            temperature=float(i % 2),
            seed=i,
            logprobs=2,
            prompt_logprobs=1 if i == 3 else None,
        )
        for i in range(6)
    ]
    embedding = make_request("embedding", [*common, 7], max_tokens=0)
    return [*many, msgspec.structs.replace(embedding, is_embedding=True)]


def look() -> TraceRequest:
    return TraceRequest(
        request_id="look",
        token_ids=list(range(5, 90)),
        layers=[0, 1],
        arrays=[*ARRAYS],
        endings=[*ENDINGS],
        lens_tokens=[7],
        has_lens=True,
        lens_positions=[3, 84],
    )


def swept() -> TraceRequest:
    """Every head of both layers zeroed, the half of which is on either rank."""
    edit = EditSpec(at="head", change="mean", texts=[0])
    sweep = SweepSpec(over="heads", edit=edit, layers=[0, 1])
    return TraceRequest(
        request_id="sweep", token_ids=[9, 8, 7, 6], layers=[], lens_positions=[3], sweep=sweep,
        num_noise=2, compare=[3, 4],
    )  # fmt: skip


def edited() -> TraceRequest:
    edits = [
        EditSpec(at="head", change="zero", index=3),
        EditSpec(at="neuron", change="scale", layer=1, index=100, factor=3.0),
    ]
    return TraceRequest(
        request_id="edit", token_ids=list(range(5, 40)), layers=[1], arrays=["z", "resid_post"],
        lens_positions=[34], edits=edits, num_continued=3, compare=[3, 4],
    )  # fmt: skip


Everything = tuple[list[list[StepOutput]], list[Trace], dict[str, int]]


async def ask_all(engine: Engine) -> Everything:
    """All requests at once, then again with a warm prefix cache, while somebody looks inside."""

    async def inspect(request: TraceRequest) -> list[Trace]:
        return [trace async for trace in engine.inspect(request)]

    first = await asyncio.gather(*(collect(engine, request) for request in requests()))
    second, *looks = await asyncio.gather(
        asyncio.gather(*(collect(engine, request) for request in requests())),
        *(inspect(request) for request in (look(), swept(), edited())),
    )
    traces = functools.reduce(operator.iadd, looks, [])
    stats = engine.stats()
    counts = {
        "preempted": stats.preemptions_total,
        "hits": stats.prefix_cache_hits_total,
        "accepted": stats.spec_decode_num_accepted_tokens_total,
    }
    return [*first, *second], traces, counts


def numbers(outputs: list[StepOutput]) -> list[float]:
    """All that is a float in an answer."""
    scores = [*(outputs[0].prompt_logprobs or [])]
    scores += [entry for output in outputs for entry in output.logprobs or []]
    values = [entry.logprob for entry in scores]
    values += [logprob for entry in scores for _, logprob in entry.top]
    return values + (outputs[-1].embedding or [])


def floats(trace: Trace) -> dict[str, list[float]]:
    return {
        name: list(struct.unpack(f"<{len(array.data) // 4}f", array.data))
        for name, array in trace.arrays.items()
    }


def test_two_ranks_answer_as_one(checkpoint: Path, tmp_path: Path) -> None:
    """Chunks, prefix hits, preemption, drafts, drawn tokens, logprobs, embeddings and a look
    inside: the same tokens, and floats to 1e-5. When they are to end and rank 1 hangs, nobody waits
    for it, and it is gone like rank 0; nor is anything left of the place they met at."""

    async def two() -> Everything:
        recipe = small_recipe(checkpoint, tensor_parallel=2)
        async with two_ranks(recipe, {"TMPDIR": str(tmp_path)}) as (engine, other):
            assert engine.info.num_ranks == 2
            assert engine.info.num_blocks == 24
            assert "2 ranks" in engine.info.numerics
            found = await ask_all(engine)
            os.kill(other, signal.SIGSTOP)
            async with asyncio.timeout(SLOW):
                await engine.close()
                await until(lambda: not is_running(other) and not is_running(engine.pid), SLOW)
            return found

    async def one() -> Everything:
        recipe = small_recipe(checkpoint, kv_memory_bytes=2 * KV_BYTES)  # for as many blocks
        async with one_rank(recipe) as engine:
            assert (engine.info.num_ranks, engine.info.num_blocks) == (1, 24)
            assert "2 ranks" not in engine.info.numerics
            return await ask_all(engine)

    answers, traces, counts = asyncio.run(two())
    expected, twins, _ = asyncio.run(one())
    assert all(counts.values()), counts
    for ours, theirs in zip(answers, expected, strict=True):
        assert tokens_of(ours) == tokens_of(theirs)
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-5, abs=1e-5)
    for trace, twin in zip(traces, twins, strict=True):
        assert trace.error is None
        assert trace.layer == twin.layer
        assert trace.continued == twin.continued
        for name, values in floats(twin).items():
            assert floats(trace)[name] == pytest.approx(values, rel=1e-4, abs=2e-5, nan_ok=True)
    assert list(tmp_path.iterdir()) == []


async def die_together(engine: ProcessEngine, other: int, what: str) -> None:
    """kill -9 of either rank, or one that hangs: every stream gets its one ERROR within the
    promised seconds, and no process is left."""
    long = [
        make_request(str(i), [i + 5], max_tokens=250, temperature=1.0, ignore_eos=True)
        for i in range(4)
    ]
    tasks = [asyncio.create_task(collect(engine, request)) for request in long]
    await until(lambda: engine.stats().num_requests_running == 4, SLOW)
    victim = engine.pid if what == "rank 0" else other
    os.kill(victim, signal.SIGSTOP if what == "rank 1 hangs" else signal.SIGKILL)
    async with asyncio.timeout(SLOW):  # 2 s, and 6 more where it hangs, on a machine at rest
        answers = await asyncio.gather(*tasks)
        assert {endings(outputs)[0] for outputs in answers} == {FinishReason.ERROR}
        await until(lambda: not is_running(other) and not is_running(engine.pid), SLOW)
    with pytest.raises(EngineDead) as error:
        await collect(engine, make_request())
    if what == "rank 1":  # who, and how; a very busy machine may not hear it in time
        assert str(error.value) in ("Rank 1 has ended with code -9.", RANKS_FAILED)


def test_an_adapter_on_two_ranks(checkpoint: Path, tmp_path: Path) -> None:
    """Loaded while both run, it answers as on one rank, beside the base; then it is unloaded. They
    die with rank 0."""
    model = tiny_llama(tmp_path / "tiny")
    generator = torch.Generator().manual_seed(0)
    factors = {
        name: random_pair(layer, 4, generator) for name, layer in linear_modules(model).items()
    }
    folder = write_adapter(tmp_path / "adapter", factors, lora_alpha=8)
    asked = [make_request(str(i), [7, 8, 9, i], max_tokens=12, ignore_eos=True) for i in range(4)]
    asked = [msgspec.structs.replace(one, adapter=5 * (i % 2)) for i, one in enumerate(asked)]

    async def ask(engine: ProcessEngine | ThreadEngine) -> list[list[int]]:
        report = await engine.load_adapter(AdapterSource(5, str(folder)))
        assert (report.error, report.rank) == ("", 4)
        broken = await engine.load_adapter(AdapterSource(6, str(tmp_path)))
        assert "is no adapter" in broken.error
        found = await asyncio.gather(*(collect(engine, one) for one in asked))
        engine.unload_adapter(5)
        await until(lambda: engine.stats().num_adapters == 0)
        gone = await collect(engine, msgspec.structs.replace(asked[1], request_id="late"))
        assert gone[-1].error_code == "model_not_found"
        return [tokens_of(outputs) for outputs in found]

    flags = {"lora_dir": str(tmp_path), "kv_memory_bytes": 2 * KV_BYTES}

    async def two() -> list[list[int]]:
        recipe = small_recipe(checkpoint, tensor_parallel=2, **flags)
        async with two_ranks(recipe) as (engine, other):
            found = await ask(engine)
            await die_together(engine, other, "rank 0")
            return found

    async def one() -> list[list[int]]:
        async with one_rank(small_recipe(checkpoint, **flags)) as engine:
            return await ask(engine)

    found = asyncio.run(two())
    assert found == asyncio.run(one())
    assert found[0] != found[1]


@needs_int8
def test_ranks_in_8_bits_answer_like_one(checkpoint: Path) -> None:
    """`--quantize int8`, greedily: two ranks round other shards than one, so their tokens may part
    where one rank's two likeliest are nearly as likely, and nowhere else. Alone or in a batch,
    a request's tokens and logprobs have the same bits. Keys and values are fp16, as on one rank.
    They die with rank 1."""
    prompts = [list(range(5 * i, 7 * i + 9)) for i in range(1, 6)]
    asked = [
        make_request(str(i), prompt, max_tokens=24, ignore_eos=True, logprobs=2)
        for i, prompt in enumerate(prompts)
    ]
    flags: dict[str, Any] = {"quantize": "int8", "kv_memory_bytes": 1 << 20}

    async def ask(engine: ProcessEngine | ThreadEngine) -> list[list[StepOutput]]:
        assert "Int8" in engine.info.numerics
        assert "float16 KV" in engine.info.numerics
        together = await asyncio.gather(*(collect(engine, request) for request in asked))
        alone = [await collect(engine, request) for request in asked]
        for ours, theirs in zip(together, alone, strict=True):
            assert tokens_of(ours) == tokens_of(theirs)
            assert numbers(ours) == numbers(theirs)
        return together

    async def two() -> list[list[StepOutput]]:
        async with two_ranks(small_recipe(checkpoint, tensor_parallel=2, **flags)) as (
            engine,
            other,
        ):
            found = await ask(engine)
            await die_together(engine, other, "rank 1")
            return found

    async def one() -> list[list[StepOutput]]:
        async with one_rank(small_recipe(checkpoint, **flags)) as engine:
            return await ask(engine)

    num_equal = 0
    for of_two, of_one in zip(asyncio.run(two()), asyncio.run(one()), strict=True):
        scores = [entry for output in of_one for entry in output.logprobs or []]
        for ours, theirs, entry in zip(tokens_of(of_two), tokens_of(of_one), scores, strict=True):
            if ours != theirs:
                (_, first), (_, second) = entry.top
                assert first - second < 0.25
                break
            num_equal += 1
    assert num_equal > 60  # of 120


@pytest.mark.prove
def test_ranks_that_run_ahead_answer_as_those_that_are_told(checkpoint: Path) -> None:
    """Two processes, each with a loop of its own: tokens and logprobs are those of a leader that
    tells each batch, bit for bit, and of one rank; embeddings and adapters are told as ever."""

    async def main(num_ranks: int, graphs: str) -> list[list[StepOutput]]:
        recipe = small_recipe(
            checkpoint,
            tensor_parallel=num_ranks,
            kv_memory_bytes=None,
            speculation="off",
            cuda_graphs=graphs,
        )
        engine = await start(recipe)
        assert ("graphs" in engine.info.numerics) == (graphs == "on")
        try:
            return await asyncio.gather(*[collect(engine, request) for request in requests()])
        finally:
            await engine.close()

    ahead = asyncio.run(main(2, "on"))
    told, alone = asyncio.run(main(2, "off")), asyncio.run(main(1, "off"))
    for ours, theirs, one in zip(ahead, told, alone, strict=True):
        assert tokens_of(ours) == tokens_of(theirs) == tokens_of(one)
        assert numbers(ours) == numbers(theirs)
        assert numbers(ours) == pytest.approx(numbers(one), rel=1e-5, abs=1e-5)


@pytest.mark.prove
@pytest.mark.parametrize(
    ("what", "graphs"),
    [
        ("rank 1 hangs", "off"),
        *((what, "on") for what in ("rank 0", "rank 1", "rank 1 hangs")),
    ],
)
def test_ranks_die_together(checkpoint: Path, what: str, graphs: str) -> None:
    """Those that are told each batch have died with either rank in the tests above, and have been
    closed while one hung; how long a silent one is waited for is in `test_rank_group.py`."""
    recipe = small_recipe(
        checkpoint,
        tensor_parallel=2,
        kv_memory_bytes=None,
        speculation="off",
        rank_timeout=6,
        cuda_graphs=graphs,
    )

    async def main() -> None:
        async with two_ranks(recipe) as (engine, other):
            await die_together(engine, other, what)

    asyncio.run(main())


def test_a_rank_that_dies_while_loading(checkpoint: Path, tmp_path: Path) -> None:
    """The server is told, and rank 0 does not wait for ever where they were to meet."""

    async def main() -> None:
        loading = asyncio.create_task(
            start(small_recipe(checkpoint, tensor_parallel=2), {"TMPDIR": str(tmp_path)})
        )
        me, others = os.getpid(), list[int]()

        def has_mate() -> bool:
            workers = [pid for pid in children(me) if is_worker(pid)]
            others[:] = [other for worker in workers for other in children(worker)]
            return bool(others)

        await until(has_mate, SLOW)
        os.kill(others[0], signal.SIGKILL)
        async with asyncio.timeout(SLOW):
            with pytest.raises(EngineDead, match="Rank 1 has ended with code -9"):
                await loading

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def is_worker(pid: int) -> bool:
    try:
        return b"thirdeye.server.load.engine_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_more_ranks_than_cpus(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a process is started: field, limit, way out."""
    monkeypatch.setattr(tensor_parallel, "own_cpus", lambda: {0, 1})
    with pytest.raises(ValueError, match="tensor-parallel") as error:
        load_engine(small_recipe(checkpoint, tensor_parallel=3), lambda *_: None)
    limit = "'--tensor-parallel' must be at most 2, the number of CPUs here, got 3."
    assert str(error.value) == limit


class FakeRankProcess:
    def __init__(self, kv_budget: int) -> None:
        self._kv_budget = kv_budget

    def send(self, frame: bytes) -> None:
        assert frame == pack_frame(Measure())

    def expect(self, kind: type[Measured]) -> Measured:
        return kind(self._kv_budget)


def test_the_pool_is_that_of_the_rank_with_the_least_room() -> None:
    others: Any = [FakeRankProcess(3000), FakeRankProcess(1000), FakeRankProcess(2000)]
    assert RankGroup(others).min_kv_budget(5000) == 1000
    assert RankGroup(others).min_kv_budget(500) == 500
    assert ONE_RANK.min_kv_budget(7) == 7


@draws(10, 30, database=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), min_size=1, max_size=8),
    logits=st.sampled_from(["last", "all", "none"]),
    has_hidden=st.booleans(),
    has_states=st.booleans(),
    has_adapters=st.booleans(),
    num_others=st.integers(0, 2),
)
def test_a_batch_crosses_unchanged(
    lengths: list[tuple[int, int]],
    logits: str,
    has_hidden: bool,
    has_states: bool,
    has_adapters: bool,
    num_others: int,
) -> None:
    """Values, shapes and dtypes, whatever the step."""
    rows = [Row(range(n), past, range(-(-(past + n) // 4))) for n, past in lengths]
    batch = make_batch(rows, 4, logits)
    if has_states:
        batch = replace(batch, state_spans=spans_in_order(batch))
    if has_adapters:
        slots = torch.arange(len(batch.input_ids), dtype=torch.int32) % 3 - 1
        batch = replace(batch, adapter_slots=slots)
    others = [GroupBlocks(batch.slot_mapping + i, batch.block_table * i) for i in range(num_others)]
    batch = replace(batch, other_groups=tuple(others))
    message = pack_batch(batch, has_hidden)
    assert message.has_hidden == has_hidden
    for ours, theirs in zip(
        astuple_of(unpack_batch(message, torch.device("cpu"))), astuple_of(batch), strict=True
    ):
        if theirs is None:
            assert ours is None
            continue
        assert ours is not None
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def astuple_of(batch: Any) -> tuple[torch.Tensor | None, ...]:
    *fields, others = astuple(batch)
    fields += [field for own in others for field in own]
    return tuple(None if field is None else torch.as_tensor(field) for field in fields)
