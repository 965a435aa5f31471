"""The rows of a state cache: which hold a running sequence's state, and which a snapshot.

Some layers keep a state of fixed size instead of keys and values (`model/state/`). What a state
holds is that of a whole prefix: it cannot be cut at an earlier token. So beside the one that each
running sequence goes on with there are snapshots, states as they were behind a full block, found by
that block's hash in the chain (`block_pool.py`). All are rows of one cache, whose number is fixed:
a snapshot that nobody holds is forgotten, least recently used first, when a row is wanted for
something new. This file knows rows and hashes; a prefix's tokens are compared in its KV blocks.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from thirdeye.server.engine.cache.block_pool import BlockPool


class StateCounts(NamedTuple):
    """As `EngineStats` has them."""

    num_states_used: int
    num_snapshots: int
    snapshot_hits_total: int
    snapshot_missed_tokens_total: int


NO_COUNTS = StateCounts(0, 0, 0, 0)


class StatePool:
    """`num_states` rows. A row is held by whoever allocated or shared it, until it is freed."""

    def __init__(self, num_states: int) -> None:
        self._rows = BlockPool(num_states, 1)

    @property
    def num_states(self) -> int:
        return self._rows.num_blocks

    @property
    def num_free(self) -> int:
        """Rows that nobody holds, snapshots among them."""
        return self._rows.num_free

    @property
    def num_snapshots(self) -> int:
        """Rows that can be found, whoever holds them."""
        return self._rows.num_known

    def is_free(self, row: int) -> bool:
        return self._rows.num_free_among([row]) == 1

    def allocate(self) -> int | None:
        """A row for new content, or None if all are held."""
        rows = self._rows.allocate(1)
        return None if rows is None else rows[0]

    def share(self, row: int) -> None:
        """One more holder of a snapshot."""
        self._rows.share([row])

    def free(self, row: int) -> None:
        """One holder less."""
        self._rows.free([row])

    def find(self, block_hash: bytes) -> int | None:
        """The snapshot behind the block of this hash; not yet taken, see `share`."""
        return self._rows.find(block_hash)

    def publish(self, row: int, block_hash: bytes) -> None:
        """Let a held row be found, now that it is computed. The first of equals stays."""
        self._rows.publish(row, block_hash, ())

    def forget(self, block_hash: bytes) -> None:
        """Let this snapshot not be found any more; nothing if it is not, or somebody holds it."""
        row = self.find(block_hash)
        if row is not None and self.is_free(row):
            self._rows.forget_first(row)

    def forget_unheld(self) -> None:
        """Let no row be found that nobody holds."""
        self._rows.forget_unheld()

    def check_all_free(self) -> None:
        """Of a pool that nobody uses."""
        self._rows.check_all_free()

    def check_integrity(self, holders: Iterable[Sequence[int]]) -> None:
        self._rows.check_integrity(holders)
