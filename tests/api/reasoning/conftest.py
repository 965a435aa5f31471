"""The model that thinks, served once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.api.reasoning.thinker import ANSWER, thinking_server
from tests.api.support import Served, fake_engine


@pytest.fixture(scope="package")
def shared_thinker() -> Iterator[Served]:
    with thinking_server() as served:
        yield served


@pytest.fixture
def thinker(shared_thinker: Served) -> Served:
    shared_thinker.use(fake_engine(ANSWER))
    return shared_thinker
