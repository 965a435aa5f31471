"""The process that all of these tests ask."""

from collections.abc import Iterator

import pytest

from tests.fake_gpu.children.child import Child


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    pytest.importorskip("triton", reason="no triton: nothing can be asked of its driver")
    child = Child()
    yield child
    child.close()
