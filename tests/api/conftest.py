"""Live servers over the fake engine: one for each file that asks, one for all tests of tools."""

from collections.abc import Iterator

import pytest

from tests.api.openai.tools import engine_that_says, state_of
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


@pytest.fixture(scope="session")
def tool_server() -> Iterator[Served]:
    """One with room for tools in its prompts: each test says what its engine answers."""
    state = state_of(engine_that_says("Hi"))
    with live(state) as url:
        yield Served(url, state)
