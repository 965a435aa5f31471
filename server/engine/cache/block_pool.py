"""The KV cache's blocks: who holds which, which may be taken, and which already hold a known
prefix.

A block is in use while its ref count is above 0, else it is in the free list. Free does not mean
forgotten: a full block whose KV is computed keeps its hash, and a later request with the same
prefix takes it back out of the free list. Blocks are forgotten one by one, least recently freed
first, when an allocation takes them for something new.

A block's hash covers its tokens and everything before them: hash[i] = H(hash[i - 1], tokens[i]),
and hash[-1] = H(cache_salt). H is blake2b keyed with a random root of this pool, so that nobody
outside can build a collision, and the block's own tokens are compared on a hit as well. This file
knows ids and hashes; where KV lies and how it is computed is not its matter.
"""

import secrets
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

HASH_BYTES = 16


@dataclass(slots=True)
class KVBlock:
    """`block_hash` and `token_ids` are set while this block is the one found for its hash."""

    ref_count: int = 0
    block_hash: bytes | None = None
    token_ids: Sequence[int] = ()
    group: int = 0  # of layers, whose keys and values it holds


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens. Every operation is O(1) for each block it
    names."""

    def __init__(self, num_blocks: int, block_size: int, root: bytes | None = None) -> None:
        self.block_size = block_size
        self._root = secrets.token_bytes(32) if root is None else root
        self._blocks = [KVBlock() for _ in range(num_blocks)]
        self._free = OrderedDict.fromkeys(range(num_blocks))  # in the order in which to take them
        self._found: dict[bytes, int] = {}  # hash -> block_id
        self._num_used: Counter[int] = Counter()  # by group

    @property
    def num_blocks(self) -> int:
        return len(self._blocks)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return len(self._blocks) - len(self._free)

    def num_used_of(self, group: int) -> int:
        return self._num_used[group]

    @property
    def num_known(self) -> int:
        """Blocks that can be found, whoever holds them."""
        return len(self._found)

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    # --- taking and giving back ---

    def allocate(self, num_blocks: int, group: int = 0) -> list[int] | None:
        """Blocks for new content, or None, and nothing taken, if fewer are free."""
        if num_blocks > len(self._free):
            return None
        block_ids = [self._free.popitem(last=False)[0] for _ in range(num_blocks)]
        for block_id in block_ids:
            self._forget(block_id)
            block = self._blocks[block_id]
            block.ref_count, block.group = 1, group
        self._num_used[group] += num_blocks
        return block_ids

    def share(self, block_ids: Iterable[int]) -> None:
        """One more holder for blocks that `find_prefix` gave; out of the free list if they were."""
        for block_id in block_ids:
            block = self._blocks[block_id]
            if block.ref_count == 0:
                del self._free[block_id]
                self._num_used[block.group] += 1
            block.ref_count += 1

    def free(self, block_table: Sequence[int]) -> None:
        """One holder less. The end of a prefix is taken before its beginning, which more may share;
        a block that nobody can find is taken first of all."""
        for block_id in reversed(block_table):
            block = self._blocks[block_id]
            assert block.ref_count > 0, f"block {block_id} is freed twice"
            block.ref_count -= 1
            if block.ref_count == 0:
                self._num_used[block.group] -= 1
                self._free[block_id] = None
                if block.block_hash is None:
                    self._free.move_to_end(block_id, last=False)

    # --- the prefix cache ---

    def extend_hashes(
        self, block_hashes: list[bytes], token_ids: Sequence[int], cache_salt: str
    ) -> None:
        """Bring a chain up to date: afterwards it covers every full block of `token_ids`."""
        for i in range(len(block_hashes), len(token_ids) // self.block_size):
            parent = block_hashes[-1] if block_hashes else self._digest(cache_salt.encode())
            own = array("q", self._tokens_of(i, token_ids)).tobytes()
            block_hashes.append(self._digest(parent + own))

    def find_prefix(self, block_hashes: Sequence[bytes], token_ids: Sequence[int]) -> list[int]:
        """Blocks that hold the longest known prefix; not yet taken, see `share`.

        At least the last token is left out: somebody has to compute its logits.
        """
        block_ids: list[int] = []
        for i in range(min(len(block_hashes), (len(token_ids) - 1) // self.block_size)):
            block_id = self._found.get(block_hashes[i])
            if block_id is None:
                break
            if self._blocks[block_id].token_ids != self._tokens_of(i, token_ids):
                break
            block_ids.append(block_id)
        return block_ids

    def find(self, block_hash: bytes) -> int | None:
        """The block of this hash; its tokens are not compared."""
        return self._found.get(block_hash)

    def knows(self, block_hash: bytes, i: int, token_ids: Sequence[int]) -> bool:
        """Whether a block of this hash is found, and holds the i-th block of these tokens."""
        block_id = self._found.get(block_hash)
        if block_id is None:
            return False
        return self._blocks[block_id].token_ids == self._tokens_of(i, token_ids)

    def num_free_among(self, block_ids: Iterable[int]) -> int:
        return self.num_held_by(block_ids, 0)

    def num_held_by(self, block_ids: Iterable[int], num_holders: int) -> int:
        """How many of these have so many holders."""
        return sum(self._blocks[block_id].ref_count == num_holders for block_id in block_ids)

    def publish(self, block_id: int, block_hash: bytes, token_ids: Sequence[int]) -> None:
        """Let a full block be found, now that its KV is computed. The first of equals stays."""
        block = self._blocks[block_id]
        assert block.ref_count > 0, f"block {block_id} is published by nobody"
        if block_hash not in self._found:
            block.block_hash, block.token_ids = block_hash, token_ids
            self._found[block_hash] = block_id

    def forget_first(self, block_id: int) -> None:
        """Let a free block not be found, and be the next to be taken."""
        self._forget(block_id)
        self._free.move_to_end(block_id, last=False)

    def forget_unheld(self) -> None:
        """Let no block be found that nobody holds. Blocks that are held stay as they are."""
        for block_id in self._free:
            self._forget(block_id)

    def _forget(self, block_id: int) -> None:
        block = self._blocks[block_id]
        if block.block_hash is not None:
            del self._found[block.block_hash]
            block.block_hash, block.token_ids = None, ()

    def _tokens_of(self, i: int, token_ids: Sequence[int]) -> Sequence[int]:
        return token_ids[i * self.block_size : (i + 1) * self.block_size]

    def _digest(self, content: bytes) -> bytes:
        return blake2b(content, digest_size=HASH_BYTES, key=self._root).digest()

    # --- what must always hold ---

    def check_all_free(self) -> None:
        """Of a pool that nobody uses. O(1): there may be a million blocks, and the engine asks at
        each request's end."""
        assert not self.num_used, f"{self.num_used} blocks are held by nobody"
        assert not any(self._num_used.values()), "blocks of a group are miscounted"

    def check_integrity(self, block_tables: Iterable[Sequence[int]]) -> None:
        """Free + used = all, a ref count = the tables that hold the block, every hash finds its
        own."""
        holders = Counter(block_id for table in block_tables for block_id in table)
        for block_id, block in enumerate(self._blocks):
            assert block.ref_count == holders[block_id], f"block {block_id}: wrong ref count"
            assert (block.ref_count == 0) == (block_id in self._free), f"block {block_id}: lost"
        used = Counter(block.group for block in self._blocks if block.ref_count)
        assert used == +self._num_used, "blocks of a group are miscounted"
        for block_hash, block_id in self._found.items():
            assert self._blocks[block_id].block_hash == block_hash, f"block {block_id}: wrong hash"
