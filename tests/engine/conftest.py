"""Whenever an engine of these tests is idle, its blocks are counted one by one."""

from collections.abc import Iterator

import pytest

from thirdeye.server.engine.scheduling.scheduler import Scheduler


@pytest.fixture(scope="package", autouse=True)
def every_block_is_counted() -> Iterator[None]:
    """A served engine asks for the totals alone: there may be a million blocks."""
    with pytest.MonkeyPatch.context() as patch:
        check_idle = Scheduler.check_idle

        def check(scheduler: Scheduler) -> None:
            check_idle(scheduler)
            scheduler.check_integrity()

        patch.setattr(Scheduler, "check_idle", check)
        yield
