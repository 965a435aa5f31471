"""What the command says to whoever started it: lines on stdout, a failure's last word on stderr."""

import sys


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fail(message: str) -> int:
    """The exit status of a command that cannot do what it was asked."""
    sys.stderr.write(f"thirdeye: {message}\n")
    return 1
