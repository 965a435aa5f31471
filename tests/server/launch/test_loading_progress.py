"""What is said while a model loads: a bar on a terminal, plain lines elsewhere."""

from io import StringIO

from rich.console import Console

from thirdeye.server.launch.console import QUIET_BELOW, LoadingProgress

GB = 10**9


def shown(total: int, num_tensors: int, *, is_terminal: bool) -> str:
    """All that is written while so many tensors come, each after a second."""
    out, now = StringIO(), [100.0]
    console = Console(file=out, force_terminal=is_terminal, width=120, soft_wrap=True)
    with LoadingProgress("org/model", console, lambda: now[0]) as progress:
        for i in range(1, num_tensors + 1):
            now[0] += 1
            progress("weights", total * i // num_tensors, total)
    return out.getvalue()


def test_a_line_for_each_tenth_where_nobody_watches() -> None:
    lines = shown(2 * GB, 40, is_terminal=False).splitlines()
    assert lines[:2] == [
        "loading org/model: 10%, 0.20 of 2.00 GB, 36 s left",
        "loading org/model: 20%, 0.40 of 2.00 GB, 32 s left",
    ]
    assert lines[-1] == "loading org/model: 100%, 2.00 of 2.00 GB, 0 s left"
    assert len(lines) == 10


def test_few_large_tensors_skip_lines() -> None:
    assert len(shown(2 * GB, 3, is_terminal=False).splitlines()) == 3


def test_a_small_model_is_no_news() -> None:
    assert shown(QUIET_BELOW - 1, 40, is_terminal=False) == ""


def test_a_bar_with_bytes_on_a_terminal() -> None:
    text = shown(2 * GB, 40, is_terminal=True)
    assert "loading org/model" in text
    assert "2.0/2.0 GB" in text
    assert "0:00:00" in text  # the time left
    assert "s left" not in text
