"""A kernel has one key in triton's cache: what is packed for a card is found there."""

from typing import Any

import pytest

from tests.fake_gpu.children.child import Child


@pytest.fixture(scope="module")
def kernels(child: Child) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = child.run("tests.fake_gpu.in_advance.keys")
    return found


def test_what_ran_before_is_no_part_of_a_key(kernels: dict[str, dict[str, Any]]) -> None:
    assert len(kernels) > 20
    assert [name for name, kernel in kernels.items() if not kernel["is_its_own"]] == []


def test_no_key_holds_two_constants_of_one_name(kernels: dict[str, dict[str, Any]]) -> None:
    """Triton sorts them by name, and those of one name by where their modules lie in memory."""
    for name, kernel in kernels.items():
        assert len(set(kernel["constants"])) == len(kernel["constants"]), name
    assert any(kernel["constants"] for kernel in kernels.values())


def test_each_is_launched_before_the_last_one_ends(kernels: dict[str, dict[str, Any]]) -> None:
    """`test_compiled.py` reads in their machine code what that asks of them."""
    assert [name for name, kernel in kernels.items() if not kernel["is_dependent"]] == []
