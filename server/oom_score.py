"""Who ends first where memory does: Linux then kills the process with the highest score.

The score is a process's share of the memory, in thousandths, and what it has added to that. The
server's own process must outlive its engines, which come back; and one that is being loaded answers
nobody yet. A process may raise what it adds, and lower it to where it began.
"""

from contextlib import suppress
from pathlib import Path

FILE = Path("/proc/self/oom_score_adj")
LOADING, SERVING = 500, 200  # what an engine adds
MOST = 1000

_began_at: list[int] = []


def end_before_others(added: int, file: Path = FILE) -> None:
    """From now on `added` above what the operator chose; on other systems nothing happens."""
    with suppress(OSError, ValueError):
        if not _began_at:
            _began_at.append(int(file.read_text()))
        file.write_text(str(min(_began_at[0] + added, MOST)))
