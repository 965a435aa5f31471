"""A child of another process of ours ends with it, and not by what the terminal says to both.

Nothing else is imported here: a child can be bound before it spends seconds on torch.
"""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def bind_to_parent() -> None:
    """Hear no signal of the terminal's, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
