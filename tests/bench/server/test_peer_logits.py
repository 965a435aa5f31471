"""A peer's logits are judged as our own are."""

from pathlib import Path

from tests.bench.server.peer_logits import is_common, windows


def test_windows_are_those_of_eval() -> None:
    assert list(windows(range(5), 2)) == [slice(0, 2), slice(2, 4)]
    assert list(windows(range(4), 3)) == [slice(0, 3)]
    assert list(windows(range(6), 3)) == [slice(0, 3), slice(3, 6)]
    assert list(windows(range(1), 3)) == []


def test_libraries_that_are_loaded_at_run_time_are_not_linked_to() -> None:
    for name in ("libllama.so", "libllama.v0.5.0.so", "libggml.so", "libggml-base.so"):
        assert is_common(Path(name))
    for name in ("libggml-cpu-zen4.so", "libllama-common.so"):
        assert not is_common(Path(name))
