"""`--isa`: what the processor lacks is refused, what it has is compiled for and told."""

import msgspec
import pytest

from tests.engine.process.fake_engine import fake_info
from thirdeye.model.native.levels import LEVELS, Level, levels_here
from thirdeye.server.launch.server_run import engine_line
from thirdeye.server.load import native_kernels, placement
from thirdeye.server.load.native_kernels import native_library, native_status
from thirdeye.server.load.placement import check_isa
from thirdeye.server.settings.engine_settings import KernelSettings
from thirdeye.server.settings.setting import settings_of

HERE = [level.name for level in levels_here()]


def test_what_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the instruction and the way out; auto never is."""
    lacking = Level("future", "x86_64", "LEVEL_FUTURE", {"avx2048": "-mavx2048"})
    monkeypatch.setattr(placement, "level_named", lambda _: lacking)
    with pytest.raises(ValueError, match=r"'--isa' future needs avx2048, which .*: use 'auto'"):
        check_isa("future")
    check_isa("auto")


@pytest.mark.parametrize("name", HERE)
def test_what_it_has_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_kernels, "_compile", lambda _: None)
    check_isa(name)
    planned = native_library(KernelSettings(isa=name), "cpu")
    assert f"kernels-{name}-" in planned
    assert native_library(KernelSettings(isa=name, native="off"), "cpu") == ""


def test_each_level_can_be_asked_for() -> None:
    (row,) = (row for row in settings_of(KernelSettings) if row.name == "isa")
    assert row.rule.choices is not None
    assert list(row.rule.choices) == ["auto", *(level.name for level in LEVELS)]


@pytest.mark.skipif(not HERE, reason="NATIVE TESTS SKIPPED: the processor has no AVX2")
def test_the_doctor_names_it() -> None:
    assert native_status().startswith((f"{HERE[0]}, compiled here: ", "none: "))


def test_the_lines_at_the_start_name_it() -> None:
    """Beside the numerics, not in them: a receipt of one level holds on another."""
    info = msgspec.structs.replace(fake_info(), numerics="torch", isa="avx2")
    assert engine_line(info) == "  engine: torch, avx2 kernels compiled here"
    brought = msgspec.structs.replace(info, has_kernels_of_wheel=True)
    assert engine_line(brought) == "  engine: torch, avx2 kernels from the wheel"
    assert engine_line(msgspec.structs.replace(info, isa="")) == "  engine: torch"
