"""What the compiler makes of kernels for an H100, read off its own files."""

from pathlib import Path
from typing import Any

import pytest

from tests.fake_gpu import child

REGISTERS_OF_A_MULTIPROCESSOR, SHARED_OF_A_MULTIPROCESSOR = 65536, 227 << 10
THREADS = 128


@pytest.fixture(scope="module")
def report() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = child.run("tests.fake_gpu.compiled")
    return found


def test_a_vectors_scale_is_of_an_exact_division(report: dict[str, dict[str, Any]]) -> None:
    """An approximate one may be too large by the last bit, and the exponent then by one."""
    assert report["rope_kv_kernel"]["divisions"] == ["div.rn.f32"]


def test_decode_attention_loads_ahead(report: dict[str, dict[str, Any]]) -> None:
    """The block table takes a stage as well as keys and values: with two buffers of each, the next
    tile is on its way while this one is multiplied; as many programs fit as with one, three."""
    kernel = report["paged_attention_kernel"]
    assert kernel["buffers"] == [2]
    assert max(kernel["waits"]) >= 3
    assert kernel["stack"] == 0
    assert REGISTERS_OF_A_MULTIPROCESSOR // (THREADS * kernel["registers"]) >= 3
    assert SHARED_OF_A_MULTIPROCESSOR // kernel["shared"] >= 3


def test_nothing_is_spilled(report: dict[str, dict[str, Any]]) -> None:
    """What has no register lies in memory, and is read from there in every round of a loop."""
    assert {"limits_kernel", "pick_kernel", "begin_step_kernel"} < set(report)
    assert {name: kernel["stack"] for name, kernel in report.items() if kernel["stack"]} == {}


def test_a_cache_can_be_filled_in_advance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code lies in a folder that may go elsewhere; of one check here."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    asked = child.run("tests.fake_gpu.fill_cache", "fp8 cache writes")
    number = int(asked["fp8 cache writes"].split(",")[0])
    assert len(list(tmp_path.rglob("*.cubin"))) == number > 0
