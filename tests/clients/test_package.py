"""The package's face: every public name is there, importing is quick, examples are true."""

import doctest
import subprocess
import sys
from importlib import import_module

import pytest

import thirdeye
from tests.clients.stub import Stub
from thirdeye import clients


def test_every_public_name_is_there() -> None:
    for name in clients.__all__:
        assert getattr(clients, name).__name__ == name
    assert clients.__all__ == sorted(clients.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = clients.Clint


def test_the_package_has_them_too() -> None:
    """`from thirdeye import Client` is what the README says."""
    assert all(getattr(thirdeye, name) is getattr(clients, name) for name in clients.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = thirdeye.Clint


def test_importing_costs_no_library() -> None:
    """`thirdeye --help` imports this package: it must load neither httpx nor rich."""
    program = (
        "import sys, thirdeye, thirdeye.clients.target;"
        "print([name for name in ('httpx', 'rich', 'readline') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("module", ["client", "errors", "sse", "target"])
def test_the_examples_in_the_docstrings_run(
    module: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reader would type them, against the server of the environment."""
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
    result = doctest.testmod(import_module(f"thirdeye.clients.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
