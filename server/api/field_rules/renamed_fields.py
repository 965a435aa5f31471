"""Errors in the words of the request that was sent, where another one was made of it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from thirdeye.server.errors import InvalidRequest

# (pattern of the start of a path, what the sender calls it), the first that fits counts.
FieldNames = Sequence[tuple[str, str]]


@contextmanager
def renaming_fields(names: FieldNames) -> Iterator[None]:
    """An `InvalidRequest` from inside leaves in the sender's words."""
    try:
        yield
    except InvalidRequest as error:
        raise renamed(error, names) from None


def renamed(error: InvalidRequest, names: FieldNames) -> InvalidRequest:
    """The error with every path in the sender's names: `param`, and what the message quotes."""
    message = re.sub(r"'([\w.\[\]]+)'", lambda m: f"'{renamed_path(m[1], names)}'", error.message)
    param = None if error.param is None else renamed_path(error.param, names)
    return error.renamed(message, param)


def renamed_path(path: str, names: FieldNames) -> str:
    for pattern, name in names:
        changed, times = re.subn(rf"^{pattern}(?=$|[.\[])", name, path)
        if times:
            return changed
    return path
