"""A live server over the fake engine, for each file that asks for one."""

from collections.abc import Iterator

import pytest

from tests.api.support import Served, fake_engine, live, ready_state
from thirdeye.server.api.http.api_config import ApiConfig


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    state = ready_state(fake_engine())
    with live(state, ApiConfig(sse_ping=0.2)) as url:
        yield Served(url, state)


@pytest.fixture
def served(shared: Served) -> Served:
    shared.use(fake_engine())
    return shared
