"""Which prefixes of a sequence are known, and which of its blocks are found by others."""

from typing import Any

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.grouped_blocks import GroupedBlocks, KnownPrefix
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.sequence_states import States
from thirdeye.server.engine.scheduling.step_plan import PlanRow


class Prefixes:
    def __init__(self, config: EngineConfig, pool: BlockPool, states: States) -> None:
        self._is_on = config.enable_prefix_caching
        self._pool, self._states = pool, states
        self._blocks = GroupedBlocks(config, pool)
        self._queries = self._hits = 0  # in tokens

    def find(self, sequence: Sequence) -> KnownPrefix:
        """Known blocks of a sequence; none while each position of its prompt must be computed."""
        if not self._is_on or sequence.needs_every_position:
            return self._blocks.find_prefix((), sequence.token_ids)
        self._extend_hashes(sequence)
        hashes, token_ids = sequence.block_hashes, sequence.token_ids
        found = self._blocks.find_prefix(hashes, token_ids)
        usable = self._states.usable(sequence, found.num_blocks)
        branch = sequence.branch
        while usable < found.num_blocks:  # a shorter one has other windows before its end
            found = self._blocks.find_prefix(hashes, token_ids, usable)
            usable = self._states.usable(sequence, found.num_blocks)
        sequence.branch = branch
        return found

    def count(self, sequence: Sequence) -> None:
        """It is admitted for the first time."""
        if self._is_on and not sequence.needs_every_position:
            self._queries += sequence.num_prompt_tokens
            self._hits += sequence.num_cached_tokens

    def totals(self) -> dict[str, Any]:
        """The fields of `EngineStats` that are counted here."""
        return {
            "prefix_cache_queries_total": self._queries,
            "prefix_cache_hits_total": self._hits,
        }

    def publish(self, row: PlanRow, num_accepted: int = 0) -> None:
        """Let the blocks be found that this step has filled: their KV is computed only now."""
        sequence, size = row.sequence, self._pool.block_size
        filled = range(row.start // size, (row.real_end + num_accepted) // size)
        is_kept = sequence.status is SequenceStatus.RUNNING
        if not filled or not is_kept or not self._is_on:
            return
        self._extend_hashes(sequence)
        for i in filled:
            token_ids = sequence.token_ids[i * size : (i + 1) * size]
            self._blocks.publish(sequence.blocks, i, sequence.block_hashes[i], token_ids)

    def _extend_hashes(self, sequence: Sequence) -> None:
        cache_salt = sequence.request.prefix_salt
        self._pool.extend_hashes(sequence.block_hashes, sequence.token_ids, cache_salt)
