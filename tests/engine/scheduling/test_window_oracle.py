"""The token-content oracle where layers give back what is behind their window, and the proof that
it finds bugs."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings

from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of, rarely_seen
from tests.engine.scheduling.scheduler_machine import WindowsAndStatesMachine, WindowsMachine
from thirdeye.server.engine.cache import grouped_blocks
from thirdeye.server.engine.cache.grouped_blocks import NO_BLOCK, BlockTables, GroupedBlocks

IS_PROVING = settings.get_current_profile_name() == "prove"


def some(num_examples: int) -> settings:
    if IS_PROVING:
        return settings()
    return settings(REPEATABLE, max_examples=num_examples, stateful_step_count=50)


@pytest.mark.timeout(900)
class TestWindows(WindowsMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """Whatever a token of a step sees is there, in each group, whoever has taken the rest."""

    settings = some(25)


@pytest.mark.timeout(900)
class TestWindowsAndStates(WindowsAndStatesMachine.TestCase):  # type: ignore[valid-type,misc]
    """A prefix is then as long as windows, everything and the state are known."""

    settings = some(8)


def give_back_one_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block in which a window begins goes with those before it."""
    pass_by = GroupedBlocks.pass_by

    def mutant(self: GroupedBlocks, blocks: BlockTables, num_computed_tokens: int) -> None:
        pass_by(self, blocks, num_computed_tokens + self._block_size - 1)

    monkeypatch.setattr(GroupedBlocks, "pass_by", mutant)


def give_back_while_seen_by_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window ends one token too late: the next one's own does not count."""
    pass_by = GroupedBlocks.pass_by
    monkeypatch.setattr(
        GroupedBlocks, "pass_by", lambda self, blocks, computed: pass_by(self, blocks, computed + 1)
    )


def never_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind a window is kept, and more is taken."""
    monkeypatch.setattr(GroupedBlocks, "pass_by", lambda self, blocks, computed: None)


def give_back_and_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table still names what was given back."""
    pass_by = GroupedBlocks.pass_by

    def mutant(self: GroupedBlocks, blocks: BlockTables, num_computed_tokens: int) -> None:
        before = [list(table) for table in blocks.tables]
        behind = list(blocks.num_behind)
        pass_by(self, blocks, num_computed_tokens)
        blocks.tables, blocks.num_behind = before, behind

    monkeypatch.setattr(GroupedBlocks, "pass_by", mutant)


def hit_without_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix is used as far as it is known to those that keep everything."""
    monkeypatch.setattr(
        GroupedBlocks, "_seen_by_all", lambda self, hashes, token_ids, num_blocks: num_blocks
    )


def hit_with_a_part_of_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block before the end of a prefix is looked for, and no other; what is missing is any
    block."""

    def mutant(
        self: GroupedBlocks, hashes: Sequence[bytes], token_ids: Sequence[int], num_blocks: int
    ) -> int:
        while num_blocks and not all(
            self.pool.knows(
                grouped_blocks.key_of(hashes[num_blocks - 1], group), num_blocks - 1, token_ids
            )
            for group in self._near
        ):
            num_blocks -= 1
        return num_blocks

    monkeypatch.setattr(GroupedBlocks, "_seen_by_all", mutant)


def one_hash_for_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group finds another's block, which has other layers' keys and values."""
    monkeypatch.setattr(grouped_blocks, "key_of", lambda block_hash, group: block_hash)


def publish_the_first_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the others are found by what is in the first one's."""

    def mutant(
        self: GroupedBlocks,
        blocks: BlockTables,
        i: int,
        block_hash: bytes,
        token_ids: Sequence[int],
    ) -> None:
        ids = [table[i] for table in blocks.tables if table[i] != NO_BLOCK]
        for group in range(len(blocks.tables)):
            self.pool.publish(ids[0], grouped_blocks.key_of(block_hash, group), token_ids)

    monkeypatch.setattr(GroupedBlocks, "publish", mutant)


def reserve_shared_blocks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Admission.RESERVE` counts on blocks of windows that somebody else will still hold."""
    monkeypatch.setattr(GroupedBlocks, "num_own", lambda self, blocks: len(blocks.held()))
    monkeypatch.setattr(
        GroupedBlocks,
        "num_own_behind",
        lambda self, prefix, num_tokens: (
            self.num_new(prefix, num_tokens) + len(prefix.found.held())
        ),
    )


def hold_no_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has the blocks of its window, and none for a chunk of a prompt."""
    make = GroupedBlocks.__init__

    def mutant(self: GroupedBlocks, *args: Any) -> None:
        make(self, *args)
        self._most = [
            (window + self._block_size - 2) // self._block_size + 1 if window else most
            for window, most in zip(self._windows, self._most, strict=True)
        ]

    monkeypatch.setattr(GroupedBlocks, "__init__", mutant)


FOUND_BY = {hit_without_its_windows: 0, one_hash_for_all_groups: 0}  # tests/engine/planted.py
MUTATIONS = [
    give_back_one_too_early,
    give_back_while_seen_by_the_last_token,
    never_give_back,
    give_back_and_keep,
    hit_without_its_windows,
    rarely_seen(hit_with_a_part_of_its_windows),
    one_hash_for_all_groups,
    publish_the_first_group_alone,
    rarely_seen(reserve_shared_blocks_once),
    hold_no_chunk,
]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=name_of)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert_finds_the_bug(
        WindowsMachine, max_examples=2000, num_steps=30, found_by=FOUND_BY.get(mutate)
    )
