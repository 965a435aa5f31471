"""The files that an operator names and that are read whole: keys, models, templates.

A pipe, a device or a folder of that name would be waited for, or never end, and one that a running
server reads again (`SIGHUP`) would hold up all streams meanwhile.
"""

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 20  # 10,000 keys


def read_operators_file(path: Path, most: int = MAX_BYTES) -> str:
    """UTF-8. Raises OSError, also for what is no file and for a larger one; UnicodeDecodeError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            rule = "it is a pipe or a device: write what comes from there into a file first"
            raise OSError(errno.EINVAL, rule, str(path))
        raw = file.read(most + 1)
    if len(raw) > most:
        rule = f"it has more than {most:,} bytes: such a file has at most so many"
        raise OSError(errno.EFBIG, rule, str(path))
    return raw.decode()
