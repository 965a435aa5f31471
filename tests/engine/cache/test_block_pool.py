"""The block pool, by hand: what the state machine finds by chance is written down here."""

import pytest

from thirdeye.server.engine.cache.block_pool import BlockPool


def make_pool(num_blocks: int = 4, block_size: int = 2) -> BlockPool:
    return BlockPool(num_blocks, block_size)


def fill(pool: BlockPool, token_ids: list[int], salt: str = "") -> list[int]:
    """Compute and publish all full blocks of a prompt, and give its table."""
    hashes: list[bytes] = []
    pool.extend_hashes(hashes, token_ids, salt)
    table = pool.allocate(pool.num_blocks_for(len(token_ids)))
    assert table is not None
    for i, block_hash in enumerate(hashes):
        size = pool.block_size
        pool.publish(table[i], block_hash, token_ids[i * size : (i + 1) * size])
    return table


def find(pool: BlockPool, token_ids: list[int], salt: str = "") -> list[int]:
    hashes: list[bytes] = []
    pool.extend_hashes(hashes, token_ids, salt)
    return pool.find_prefix(hashes, token_ids)


def test_allocation_is_all_or_nothing() -> None:
    pool = make_pool()
    table = pool.allocate(3)
    assert pool.allocate(2) is None
    assert (pool.num_free, pool.num_used) == (1, 3)
    assert table is not None
    pool.check_integrity([table])
    with pytest.raises(AssertionError, match="3 blocks are held by nobody"):
        pool.check_all_free()
    pool.free(table)
    pool.check_all_free()
    assert pool.num_free == 4


def test_longest_prefix_but_never_all() -> None:
    pool = make_pool(8)
    table = fill(pool, [1, 2, 3, 4, 5])
    assert find(pool, [1, 2, 3, 4, 9]) == table[:2]
    assert find(pool, [1, 2, 3, 4]) == table[:1]  # the last token is left to compute
    assert find(pool, [1, 2]) == []
    assert find(pool, [1, 2, 9, 9, 9]) == table[:1]
    assert find(pool, [9, 2, 3, 4, 5]) == []
    assert find(pool, [1, 2, 3, 4, 9], salt="other") == []


def test_another_pool_has_other_hashes() -> None:
    """Nobody outside can compute a hash, so nobody can look for a collision."""
    one: list[bytes] = []
    other: list[bytes] = []
    make_pool().extend_hashes(one, [1, 2, 3, 4], "")
    make_pool().extend_hashes(other, [1, 2, 3, 4], "")
    assert len(one) == len(other) == 2
    assert one != other


def test_tokens_are_compared_on_a_hit() -> None:
    """Should a hash ever collide, the answer is a miss and not another request's text."""
    pool = make_pool()
    hashes: list[bytes] = []
    pool.extend_hashes(hashes, [1, 2, 3, 4], "")
    (block_id,) = pool.allocate(1) or []
    pool.publish(block_id, hashes[0], [7, 7])
    assert pool.find_prefix(hashes, [1, 2, 3, 4]) == []


def test_freed_blocks_stay_findable_until_taken_oldest_first() -> None:
    pool = make_pool(4)
    first = fill(pool, [1, 2, 3, 4])
    second = fill(pool, [5, 6, 7, 8])
    pool.free(first)
    pool.free(second)
    assert pool.num_free == 4
    assert find(pool, [1, 2, 3, 4, 0]) == first
    assert pool.allocate(1) == [first[1]]  # the end of a prefix goes before its beginning
    assert find(pool, [1, 2, 3, 4, 0]) == first[:1]
    assert pool.allocate(1) == [first[0]]
    assert find(pool, [5, 6, 7, 8, 0]) == second


def test_a_hit_saves_a_block_from_being_taken() -> None:
    pool = make_pool(2)
    table = fill(pool, [1, 2, 3])
    pool.free(table)
    found = find(pool, [1, 2, 5])
    assert pool.num_free_among(found) == 1
    pool.share(found)
    assert pool.num_free_among(found) == 0
    assert pool.allocate(2) is None
    pool.share(found)
    pool.check_integrity([found, found])
    pool.free(found)
    assert pool.num_used == 1


def test_blocks_that_nobody_can_find_are_taken_first() -> None:
    pool = make_pool(4)
    known = fill(pool, [1, 2, 3, 4])
    pool.free(known)
    unknown = pool.allocate(2)
    assert unknown is not None
    pool.free(unknown)
    assert sorted(pool.allocate(2) or []) == sorted(unknown)
    assert find(pool, [1, 2, 3, 4, 0]) == known


def test_the_first_of_equal_blocks_stays() -> None:
    """Two requests computed the same block at the same time: one is found, both are freed."""
    pool = make_pool(4)
    first, second = fill(pool, [1, 2]), fill(pool, [1, 2])
    assert find(pool, [1, 2, 3]) == first
    pool.check_integrity([first, second])
    pool.free(second)
    assert find(pool, [1, 2, 3]) == first


def test_freeing_twice_is_our_own_bug() -> None:
    pool = make_pool()
    table = pool.allocate(1)
    assert table is not None
    pool.free(table)
    with pytest.raises(AssertionError, match="twice"):
        pool.free(table)


def test_what_is_forgotten_is_not_found_and_what_is_held_is() -> None:
    pool = BlockPool(4, 2)
    tokens, hashes = [1, 2, 3, 4, 5], []
    pool.extend_hashes(hashes, tokens, "")
    table = pool.allocate(2)
    assert table is not None
    for i, block_id in enumerate(table):
        pool.publish(block_id, hashes[i], tokens[2 * i : 2 * i + 2])
    pool.free(table[1:])
    assert pool.find_prefix(hashes, tokens) == table
    pool.forget_unheld()
    assert pool.find_prefix(hashes, tokens) == table[:1]
    pool.check_integrity([table[:1]])
    pool.free(table[:1])
    pool.forget_unheld()
    assert pool.find_prefix(hashes, tokens) == []
    pool.check_integrity([])
