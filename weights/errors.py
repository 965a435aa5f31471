"""What can go wrong between a name on the command line and tensors in memory.

    ModelError
    ├── ModelFormatError   the files are there, but are not a checkpoint we can read
    ├── ModelNotFound      nothing of that name; the message says how to get it
    ├── ModelDamaged       a file has not its hash; the message says what repairs it
    └── PullError          fetching a catalog model failed; the message says the way out

Each message is written for the person who typed the command: it names the file, the field and the
limit.
"""

from pathlib import Path

MAX_FIELD = 120  # characters of a field's name in a message: a file's may be as long as it likes
MAX_PROBLEM = 1000  # and of what is said of it, which may quote the file


class ModelError(Exception):
    """Base of all errors of `weights`."""


class ModelNotFound(ModelError):
    """No model under this name or path."""


class ModelDamaged(ModelError):
    """A file is not what was published, or nobody can say."""


class PullError(ModelError):
    """A catalog model could not be fetched."""


class ModelFormatError(ModelError):
    """A checkpoint breaks its format, or asks for something that is not supported."""

    def __init__(
        self, path: Path, problem: str, *, field: str = "", offset: int | None = None
    ) -> None:
        place = str(path)
        if offset is not None:
            place += f", byte {offset:,}"
        if field:
            place += f", '{_cut(_printable(field), MAX_FIELD)}'"
        super().__init__(f"{_printable(place)}: {_cut(_printable(problem), MAX_PROBLEM)}")
        self.path = path
        self.problem = problem
        self.field = field
        self.offset = offset

    def and_say(self, more: str) -> "ModelFormatError":
        """The same, with a sentence behind it."""
        return ModelFormatError(
            self.path, f"{self.problem} {more}", field=self.field, offset=self.offset
        )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _printable(text: str) -> str:
    """On one line, and harmless to a terminal: names in a file may hold any character."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
