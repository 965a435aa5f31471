"""What a key sees of steps that others share: nothing of them but counts, whatever they do."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.api.introspection.timeline_view import seen_by
from thirdeye.server.api.state.shared_totals import POOL_PARTS
from thirdeye.server.engine.interface.step_record import RowKind, StepRecord, StepRow

POOL = 1600
OWN, OTHER = "alice", "bob"


def record(owners: list[str], lengths: list[int], used: int) -> StepRecord:
    """A row, a waiting one, a preempted one and a finished one of each owner."""
    names = [f"{owner}-request-{i}" for i, owner in enumerate(owners)]
    rows = [
        StepRow(name, length, RowKind.PREFILL, length)
        for name, length in zip(names, lengths, strict=True)
    ]
    return StepRecord(
        step=3,
        started_at=1.0,
        rows=rows,
        num_waiting=7,
        waiting=names,
        preempted=names,
        finished=names,
        tenants={name: owner for name, owner in zip(names, owners, strict=True) if owner},
        inspected=names[-1],
        num_blocks_used=used,
        num_blocks_free=POOL - used,
        num_preemptions=1,
        schedule_ms=0.1,
        forward_ms=0.1,
        sample_ms=0.1,
        total_ms=0.3,
    )


owners = st.lists(st.sampled_from([OWN, OTHER, ""]), min_size=1, max_size=6)


@given(owners, st.integers(0, POOL), st.integers(100_000, 999_999))
def test_nothing_of_others_leaves_but_counts(owners: list[str], used: int, length: int) -> None:
    """An id, a length and a cache hit of another key are looked for in the bytes themselves."""
    lengths = [5 if owner == OWN else length for owner in owners]
    seen = seen_by(record(owners, lengths, used), OWN)
    told = msgspec.json.encode(seen).decode()
    assert OTHER not in told
    assert '"-request' not in told
    assert str(length) not in told
    assert told.count('"alice-request') == 5 * owners.count(OWN) + (owners[-1] == OWN)
    assert seen.num_hidden_rows + len(seen.rows) == len(owners)
    assert (seen.num_waiting, seen.total_ms) == (7, 0.3)


@given(st.integers(0, POOL))
def test_blocks_in_use_are_told_in_sixteenths(used: int) -> None:
    seen = seen_by(record([OTHER], [5], used), OWN)
    part = POOL // POOL_PARTS
    assert seen.num_blocks_used % part == 0
    assert 0 <= seen.num_blocks_used - used < part
    assert seen.num_blocks_used + seen.num_blocks_free == POOL


def test_own_rows_stay_as_they_are() -> None:
    whole = record([OWN, OWN], [5, 6], 0)
    assert seen_by(whole, OWN) == whole
