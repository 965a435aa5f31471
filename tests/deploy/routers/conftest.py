"""Two replicas for all routers, and one router at a time in front of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.routers.replicas import Replicas
from tests.deploy.routers.running_router import ROUTERS, RunningRouter


@pytest.fixture(autouse=True)
def schema_exact() -> None:
    """What a router says by itself, as of a replica that was killed, is not held to the schemas."""


@pytest.fixture(scope="session")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    replicas = Replicas(tmp_path_factory.mktemp("tiny"))
    yield replicas
    replicas.close()


@pytest.fixture(scope="module", params=ROUTERS)
def router(
    request: pytest.FixtureRequest, replicas: Replicas, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningRouter]:
    replicas.bring_back()
    folder: Path = tmp_path_factory.mktemp(request.param)
    running = ROUTERS[request.param].start(replicas.ports, folder)
    yield running
    running.stop()
