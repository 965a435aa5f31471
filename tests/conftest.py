"""What every room's tests share: the default model, and clean ground before and after each test."""

import os
from pathlib import Path

# Before triton is imported by anybody: without a GPU its kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # noqa: TID251  # triton's own switch

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.oracles.wire import Wire, reading_along
from weights.errors import ModelNotFound
from weights.resolve import resolve_model

# `pytest --hypothesis-profile=prove`: what a night can afford, and a push cannot.
settings.register_profile(
    "prove",
    max_examples=2000,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The embedded default model's file; without it these tests skip, loudly."""
    try:
        return resolve_model(None)
    except ModelNotFound as error:
        pytest.skip(f"REAL-WEIGHT TESTS SKIPPED: {error}")


@pytest.fixture(autouse=True)
def plain_torch():
    """No test leaves a default dtype or a thread count behind."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def wire():
    """Whoever asks one of our servers: what it answers is held against the published schemas."""
    with reading_along() as wire:
        yield wire


@pytest.fixture(autouse=True)
def schema_exact(wire: Wire):
    """No test passes that was given an answer its API's publisher would not know."""
    wire.faults.clear()
    yield
    assert not wire.faults, "\n".join(wire.faults[:10])
