"""The recorder and the board: what they say is what happened, and they hold no more than a ring."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest
from msgspec.structs import replace

from tests.engine.process.recording_client import RecordingClient
from tests.engine.toy import drain, make_request, toy_config, toy_core, until
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.step_recorder import MAX_NAMED, describe_queue
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.step_record import RowKind, StepRecord
from thirdeye.server.engine.interface.trace import TraceRequest
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.messages import Step, Unwatch, Watch
from thirdeye.server.engine.process.step_history import StepHistory


def record(step: int) -> StepRecord:
    return StepRecord(
        step=step,
        started_at=0.0,
        rows=[],
        num_waiting=0,
        num_blocks_used=0,
        num_blocks_free=0,
        num_preemptions=0,
        schedule_ms=0.0,
        forward_ms=0.0,
        sample_ms=0.0,
        total_ms=0.0,
    )


def look(name: str) -> TraceRequest:
    """Three pieces of the toy's."""
    return TraceRequest(request_id=name, token_ids=[5, 6], layers=[0])


def watched(core: EngineCore) -> EngineCore:
    core.is_watched = True
    return core


def test_a_record_says_what_ran() -> None:
    """A prompt in chunks beside a decoding answer: who, how many tokens, and of which kind."""
    core = watched(toy_core(toy_config(max_num_batched_tokens=4, max_num_seqs=2)))
    core.add(make_request("a", [1, 2], max_tokens=3, ignore_eos=True))
    core.step()
    core.add(make_request("b", [3, 4, 5, 6, 7], max_tokens=1))
    core.add(make_request("c", [8], max_tokens=1))
    drain(core)
    records = core.records()
    rows = [[(row.request_id, row.num_tokens, row.kind) for row in r.rows] for r in records]
    prefill, decode = RowKind.PREFILL, RowKind.DECODE
    assert rows == [
        [("a", 2, prefill)],
        [("a", 1, decode), ("b", 3, prefill)],
        [("a", 1, decode), ("b", 2, prefill)],
        [("c", 1, prefill)],
    ]
    assert [r.step for r in records] == [0, 1, 2, 3]
    assert [r.num_waiting for r in records] == [0, 1, 1, 0]
    assert [r.num_blocks_used for r in records] == [1, 3, 3, 1]
    assert all(r.num_blocks_used + r.num_blocks_free == 64 for r in records)
    assert all(r.started_at > 1.7e9 for r in records)
    for r in records:
        assert min(r.schedule_ms, r.forward_ms, r.sample_ms) > 0
        assert r.schedule_ms + r.forward_ms + r.sample_ms <= r.total_ms
    assert core.records() == []


def test_recomputing_after_a_preemption_is_prefill_and_is_counted() -> None:
    core = watched(
        toy_core(toy_config(num_blocks=8, max_model_len=32, enable_prefix_caching=False))
    )
    for name in ("a", "b"):
        core.add(make_request(name, [1] * 9, max_tokens=20, ignore_eos=True))
    drain(core)
    records = core.records()
    num_preemptions = core.stats().preemptions_total
    assert num_preemptions > 0
    assert sum(r.num_preemptions for r in records) == num_preemptions
    again = [row for r in records for row in r.rows if row.kind is RowKind.PREFILL]
    assert len(again) == 2 + num_preemptions
    assert again[-1].num_tokens > 9


def test_a_record_names_who_waits_who_was_thrown_out_and_who_is_done() -> None:
    """One runs, one waits for its first step; then two share too few blocks."""
    core = watched(toy_core(toy_config(max_num_seqs=1)))
    for name in ("a", "b"):
        core.add(make_request(name, [1, 2, 3, 4, 5], max_tokens=2, ignore_eos=True))
    drain(core)
    told = [([row.request_id for row in r.rows], r.waiting, r.finished) for r in core.records()]
    assert told == [
        (["a"], ["b"], []),
        (["a"], ["b"], ["a"]),
        (["b"], [], []),
        (["b"], [], ["b"]),
    ]
    config = toy_config(num_blocks=8, max_model_len=32, enable_prefix_caching=False)
    core = watched(toy_core(config))
    for name in ("a", "b"):
        core.add(make_request(name, [1] * 9, max_tokens=20, ignore_eos=True))
    drain(core)
    records = core.records()
    assert {name for r in records for name in r.preempted} == {"b"}
    for before, after in pairwise(records):
        is_thrown_out = after.num_preemptions > 0
        assert is_thrown_out == bool(after.preempted and not before.preempted)


def test_a_record_says_whose_requests_it_names() -> None:
    """Those that run, wait and are looked into; a request of nobody's is left out."""
    core = watched(toy_core(toy_config(max_num_seqs=1)))
    core.add(make_request("a", [1, 2], max_tokens=1, tenant="alice"))
    core.add(make_request("b", [1, 2], max_tokens=1, tenant="bob"))
    core.add(make_request("c", [1, 2], max_tokens=1))
    core.inspect(replace(look("look"), tenant="carol"))
    for _ in range(3):
        core.step()
    tenants = [record.tenants for record in core.records()]
    assert tenants[0] == {"a": "alice", "b": "bob", "look": "carol"}
    assert tenants[1] == {"b": "bob", "look": "carol"}
    assert tenants[2] == {"look": "carol"}


def test_a_look_inside_is_on_the_record() -> None:
    """Beside an answer and alone; a step without rows counts no tokens."""
    core = watched(toy_core())
    core.add(make_request("a", max_tokens=2, ignore_eos=True))
    core.inspect(look("look"))
    while core.has_work:
        core.step()
        core.traces()
    records = core.records()
    told = [([row.request_id for row in r.rows], r.inspected, r.inspect_ms > 0) for r in records]
    assert told == [(["a"], "look", True)] * 2 + [([], "look", True)]
    assert all(r.forward_ms + r.inspect_ms <= r.total_ms for r in records)
    assert core.stats().step_tokens_total == 3 + 1
    assert sum(core.stats().step_tokens_counts) == core.stats().steps_total == 2
    core.add(make_request("b", max_tokens=1, ignore_eos=True))
    drain(core)
    assert [(r.inspected, r.inspect_ms) for r in core.records()] == [("", 0.0)]


def test_cached_tokens_stand_on_a_requests_first_row() -> None:
    """They were not computed, so no row counts them; each is told once."""
    core = watched(toy_core())
    for name in ("a", "b"):
        core.add(make_request(name, [1] * 10, max_tokens=3, ignore_eos=True))
        drain(core)
    rows = [row for r in core.records() for row in r.rows if row.request_id == "b"]
    assert [(row.num_cached_tokens, row.num_tokens) for row in rows] == [(8, 2), (0, 1), (0, 1)]


def test_a_long_queue_makes_no_long_record() -> None:
    core = watched(toy_core(toy_config(max_num_seqs=1)))
    for i in range(100):
        core.add(make_request(str(i), max_tokens=1))
    core.step()
    (found,) = core.records()
    assert (found.num_waiting, len(found.waiting)) == (99, MAX_NAMED)


def test_a_step_looks_at_no_more_of_a_long_queue_than_it_names() -> None:
    core = toy_core()
    for i in range(100):
        core.add(make_request(str(i), max_tokens=1))
    queue = core._scheduler.queue()
    named, _ = describe_queue(queue)
    assert [one.request.request_id for one in named] == [str(i) for i in range(MAX_NAMED)]
    assert len([*queue]) == 100 - MAX_NAMED, "the others were not looked at"


def test_only_the_newest_token_is_decoded() -> None:
    """What a preemption lost is prefill again, in chunks that reach beyond the prompt too."""
    sizes: dict[str, object] = {"num_blocks": 8, "max_model_len": 32, "max_num_batched_tokens": 5}
    config = toy_config(max_num_seqs=2, enable_prefix_caching=False, **sizes)
    core = watched(toy_core(config))
    for name in ("a", "b"):
        core.add(make_request(name, [1] * 3, max_tokens=20, ignore_eos=True))
    drain(core)
    assert core.stats().preemptions_total > 0
    rows = [row for r in core.records() for row in r.rows]
    assert {row.num_tokens for row in rows if row.kind is RowKind.DECODE} == {1}
    chunks = [row for row in rows if row.kind is RowKind.PREFILL and row.num_tokens == 5]
    assert len(chunks) >= 2


def test_the_engine_adds_up_its_stages_and_sizes() -> None:
    core = watched(toy_core())
    core.add(make_request("a", [1] * 20, max_tokens=3, ignore_eos=True))
    drain(core)
    stats, records = core.stats(), core.records()
    assert stats.step_tokens_total == 20 + 1 + 1
    assert stats.step_tokens_counts[:4] == [2, 0, 0, 1]
    assert sum(stats.step_tokens_counts) == stats.steps_total == len(records)
    assert stats.forward_seconds_total * 1000 == pytest.approx(sum(r.forward_ms for r in records))
    assert stats.sample_seconds_total > 0
    assert stats.schedule_seconds_total > 0


def test_unwatched_nothing_is_told_and_the_ring_forgets() -> None:
    core = toy_core()
    core.add(make_request(max_tokens=4, ignore_eos=True))
    drain(core)
    assert core.records() == []
    assert [r.step for r in watched(core).records()] == [0, 1, 2, 3]
    for i in range(10):
        core.add(make_request(str(i), max_tokens=100, ignore_eos=True))
        drain(core)
    assert [r.step for r in core.records()] == list(range(1004 - 512, 1004))


def test_readers_follow_at_their_own_pace() -> None:
    async def main() -> None:
        board = StepHistory(size=4)
        board.post([record(i) for i in range(6)])
        async with aclosing(board.read(0)) as slow, aclosing(board.read(5)) as quick:
            assert (await anext(slow)).step == 2  # 0 and 1 are forgotten
            assert (await anext(quick)).step == 5
            waiting = asyncio.ensure_future(anext(quick))
            await asyncio.sleep(0)
            board.post([record(6)])
            assert (await waiting).step == 6
            board.post([record(i) for i in range(7, 20)])
            assert [(await anext(slow)).step for _ in range(4)] == [3, 4, 5, 16]
            board.close()
            assert [r.step async for r in quick] == [16, 17, 18, 19]
        assert board.num_readers == 0

    asyncio.run(main())


def test_records_are_asked_for_by_the_first_watcher_until_the_last_leaves() -> None:
    """Nothing crosses the pipe for a timeline that nobody looks at."""

    async def follow(client: RecordingClient, steps: list[int]) -> None:
        async for found in client.watch():
            steps.append(found.step)  # noqa: PERF401 (as they come)

    async def main() -> None:
        client = RecordingClient()
        seen: list[list[int]] = [[], []]
        tasks = [asyncio.create_task(follow(client, steps)) for steps in seen]
        await asyncio.sleep(0)
        assert client.sent == [Watch()]
        client.receive(Step(0, [], EngineStats(), [record(7), record(8)]))
        await until(lambda: seen == [[7, 8], [7, 8]])
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert client.sent == [Watch()]
        client.receive(Step(1, [], EngineStats(), [record(9)]))
        await until(lambda: seen[1] == [7, 8, 9])
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert client.sent == [Watch(), Unwatch()]
        client.fail_all("gone")
        with pytest.raises(EngineDead, match="gone"):
            await anext(client.watch())

    asyncio.run(main())
