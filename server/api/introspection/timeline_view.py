"""What one key may see of a step: its own requests, and of all others nothing but totals.

A prompt's length, a cache hit or an id of somebody else does not leave. Blocks in use would tell a
length to 16 tokens by their rise, so they are rounded to sixteenths of the pool. What steps took in
milliseconds stays: every stream feels it.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from thirdeye.server.api.state.shared_totals import rounded_blocks
from thirdeye.server.engine.interface.step_record import StepRecord


def seen_by(record: StepRecord, tenant: str) -> StepRecord:
    """The record with the requests of `tenant` alone; whose nobody knows is hidden, too."""
    tenants = {name: whose for name, whose in record.tenants.items() if whose == tenant}
    rows = [row for row in record.rows if row.request_id in tenants]
    total = record.num_blocks_used + record.num_blocks_free
    used = rounded_blocks(record.num_blocks_used, total)
    return replace(
        record,
        rows=rows,
        num_hidden_rows=len(record.rows) - len(rows),
        waiting=_own(record.waiting, tenants),
        preempted=_own(record.preempted, tenants),
        finished=_own(record.finished, tenants),
        inspected=record.inspected if record.inspected in tenants else "",
        tenants=tenants,
        num_blocks_used=used,
        num_blocks_free=total - used,
    )


def _own(names: Iterable[str], tenants: Mapping[str, str]) -> list[str]:
    return [name for name in names if name in tenants]
