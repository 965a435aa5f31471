"""Block tables of sequences, one for each group of layers, out of one pool.

Layers that see everything keep all of a sequence's blocks, and layers with a window those in which
the tokens that are still to be computed see anything (`model/state/kv_groups.py`):

    blocks of a window's group    |<- given back ->|<- window ->|<- to be computed ->|
                                  0            num_behind                      the table's end

What lies behind is free at once, and found as part of a prefix until it is taken. Of a long prompt
such a group has the blocks of its next chunk and no more, so what it holds is bounded by window and
chunk, however long the text (`held_at_most`). A prefix is of use as far as the groups that see all
know it whole, and the others the window before its end. This file knows ids, and no sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.interface.engine_config import EngineConfig, most_blocks

NO_BLOCK = -1  # in a table, where a block was given back


@dataclass(slots=True)
class BlockTables:
    """Of one sequence, by group; none while it does not run. The block of a position is
    `tables[group][position // block_size]`, from the entry `num_behind[group]` on."""

    tables: list[list[int]] = field(default_factory=list)
    num_behind: list[int] = field(default_factory=list)

    def held(self) -> list[int]:
        """All its blocks, the earlier tokens' first."""
        if len(self.tables) == 1:
            return self.tables[0][self.num_behind[0] :]
        longest = max(map(len, self.tables), default=0)
        pairs = list(zip(self.tables, self.num_behind, strict=True))
        return [
            table[i] for i in range(longest) for table, behind in pairs if behind <= i < len(table)
        ]


@dataclass(frozen=True, slots=True)
class KnownPrefix:
    """Blocks that hold a prefix of `num_blocks` blocks, as far as it is still seen; not yet
    taken."""

    num_blocks: int
    found: BlockTables


class GroupedBlocks:
    """Has no state but the pool's: whoever needs it makes one."""

    def __init__(self, config: EngineConfig, pool: BlockPool) -> None:
        self.pool, self.num_groups = pool, len(config.windows)
        self._block_size, self._windows = pool.block_size, config.windows
        self._num_ahead = config.num_tokens_ahead
        far = config.max_model_len + self._num_ahead
        self._most = [
            most_blocks(window, far, self._block_size, self._num_ahead) for window in self._windows
        ]
        self._near = [group for group, window in enumerate(self._windows) if window]
        self._far = [group for group, window in enumerate(self._windows) if not window]

    # --- how many ---

    def held_at_most(self, num_tokens: int) -> int:
        """Of a sequence of so many tokens, from its first step to its last."""
        num_blocks = self.pool.num_blocks_for(num_tokens)
        return sum([min(num_blocks, most) for most in self._most])

    def num_used_by_group(self) -> list[int]:
        """None where there is one group, or none that gives blocks back."""
        if not self._near:
            return []
        return [self.pool.num_used_of(group) for group in range(self.num_groups)]

    def num_new(self, prefix: KnownPrefix, num_tokens: int) -> int:
        """Blocks to be taken for a sequence of so many tokens that goes on behind a prefix."""
        num_blocks = self.pool.num_blocks_for(num_tokens)
        ends = [
            min(num_blocks, behind + most)
            for behind, most in zip(prefix.found.num_behind, self._most, strict=True)
        ]
        return sum([max(0, end - prefix.num_blocks) for end in ends])

    def num_own(self, blocks: BlockTables) -> int:
        """Those that a sequence holds, but for those of windows that others hold, too: they are not
        free when it gives them back."""
        return self._num_held(blocks, 1)

    def num_own_behind(self, prefix: KnownPrefix, num_tokens: int) -> int:
        """The same of a sequence of so many tokens that were to go on behind a prefix, less those
        that would then be others' own no longer."""
        lost = self._num_held(prefix.found, 1) - self._num_held(prefix.found, -1)
        return self.num_new(prefix, num_tokens) + self._num_held(prefix.found, 0) - lost

    def _num_held(self, blocks: BlockTables, num_holders: int) -> int:
        """Those of layers that see all, and of the others those with so many holders."""
        whole = sum([len(blocks.tables[group]) for group in self._far])
        near = (blocks.tables[group][blocks.num_behind[group] :] for group in self._near)
        return whole + sum([self.pool.num_held_by(held, num_holders) for held in near])

    # --- a sequence runs ---

    def extend(self, blocks: BlockTables, num_tokens: int) -> bool:
        """Blocks for so many tokens, as far ahead as a group may have them; False, and nothing
        taken, if fewer are free."""
        num_blocks = -(-num_tokens // self._block_size)
        for table in blocks.tables:
            if len(table) < num_blocks:
                break
        else:
            return True  # as most steps have it, for every sequence
        missing: list[tuple[int, int]] = []
        for group, table in enumerate(blocks.tables):
            num_missing = num_blocks - len(table)
            if num_missing > 0:
                room = blocks.num_behind[group] + self._most[group] - len(table)
                if room > 0:
                    missing.append((group, min(num_missing, room)))
        if not missing:
            return True
        if sum([count for _, count in missing]) > self.pool.num_free:
            return False
        for group, count in missing:
            blocks.tables[group] += self.pool.allocate(count, group) or []
        return True

    def cut(self, blocks: BlockTables, num_tokens: int) -> None:
        """Give back what more tokens than these had needed."""
        num_blocks = self.pool.num_blocks_for(num_tokens)
        for table in blocks.tables:
            self.pool.free(table[num_blocks:])
            del table[num_blocks:]

    def num_held_tokens(self, blocks: BlockTables) -> int:
        """Tokens that have a slot in every group."""
        return min(map(len, blocks.tables)) * self._block_size

    def pass_by(self, blocks: BlockTables, num_computed_tokens: int) -> None:
        """Give back what no token sees that is not computed yet."""
        for group in self._near:
            before, behind = blocks.num_behind[group], self._first_seen(group, num_computed_tokens)
            if behind > before:
                table = blocks.tables[group]
                self.pool.free(table[before:behind])
                table[before:behind] = [NO_BLOCK] * (behind - before)
                blocks.num_behind[group] = behind

    def free(self, blocks: BlockTables) -> None:
        """It runs no more."""
        self.pool.free(blocks.held())
        blocks.tables, blocks.num_behind = [], []

    def _first_seen(self, group: int, position: int) -> int:
        """The first block of which the token at this position sees something."""
        window = self._windows[group]
        return max(0, position - window + 1) // self._block_size if window else 0

    # --- prefixes ---

    def find_prefix(
        self, block_hashes: Sequence[bytes], token_ids: Sequence[int], most: int | None = None
    ) -> KnownPrefix:
        """The longest that is known, of `most` blocks at most. The last token is left out."""
        hashes = block_hashes if most is None else block_hashes[:most]
        num_blocks = min(len(hashes), (len(token_ids) - 1) // self._block_size)
        tables: list[list[int]] = [[] for _ in self._windows]
        for group in self._far:
            own = [key_of(one, group) for one in hashes[:num_blocks]] if group else hashes
            tables[group] = self.pool.find_prefix(own, token_ids)
            num_blocks = len(tables[group])
        behind = [0] * self.num_groups
        if self.num_groups > len(self._far) or len(self._far) > 1:
            num_blocks = self._seen_by_all(hashes, token_ids, num_blocks)
            for group in self._far:
                del tables[group][num_blocks:]
            for group in self._near:
                first = self._first_seen(group, num_blocks * self._block_size)
                keys = [key_of(one, group) for one in hashes[first:num_blocks]]
                known = [self.pool.find(key) for key in keys]
                tables[group] = [NO_BLOCK] * first + [one for one in known if one is not None]
                behind[group] = first
        return KnownPrefix(num_blocks, BlockTables(tables, behind))

    def _seen_by_all(
        self, hashes: Sequence[bytes], token_ids: Sequence[int], num_blocks: int
    ) -> int:
        """The most blocks, up to so many, before whose end each window is known."""
        longest = -1
        while longest != num_blocks:
            longest = num_blocks
            for group in self._near:
                i = num_blocks
                while i > self._first_seen(group, num_blocks * self._block_size):
                    i -= 1
                    if not self.pool.knows(key_of(hashes[i], group), i, token_ids):
                        num_blocks = i
        return num_blocks

    def start(self, prefix: KnownPrefix, num_tokens: int) -> BlockTables:
        """The tables of a sequence of so many tokens behind a prefix; `num_new` blocks are free."""
        blocks = prefix.found
        self.pool.share(blocks.held())
        is_there = self.extend(blocks, num_tokens)
        assert is_there, "it is let in without its blocks"
        return blocks

    def publish(
        self, blocks: BlockTables, i: int, block_hash: bytes, token_ids: Sequence[int]
    ) -> None:
        """Let a sequence's i-th block be found, in every group."""
        for group, table in enumerate(blocks.tables):
            if i >= blocks.num_behind[group]:
                self.pool.publish(table[i], key_of(block_hash, group), token_ids)

    def check_integrity(self, running: Iterable[BlockTables]) -> None:
        """Every block is accounted for by these alone, and none holds more than it may."""
        every = list(running)
        self.pool.check_integrity([blocks.held() for blocks in every])
        for blocks in every:
            for group, table in enumerate(blocks.tables):
                behind = blocks.num_behind[group]
                assert len(table) - behind <= self._most[group], "a group holds too much"
                assert all(block == NO_BLOCK for block in table[:behind]), "a stale entry"


def key_of(block_hash: bytes, group: int) -> bytes:
    """By which a group's block is found: of equal tokens each group has a block of its own."""
    return block_hash + bytes([group]) if group else block_hash
