"""How large a template's value is when it is written out: what it holds twice counts twice.

A list may hold one list twice, and that another twice: after 40 turns of a loop a few hundred bytes
of memory stand for a million millions of elements, and whatever looks at each of them (JSON, a
comparison, a hash) never ends, in one call that no clock interrupts. So values are weighed where
they are made, compared, handed on and written.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace
from markupsafe import Markup

from thirdeye.server.text.templates.limits import check_size

SMALL = 1_000_000  # characters and elements, written out: nearly every value is
_PLAIN = frozenset((str, int, float, bool, type(None), Markup))
_NESTED = (list, tuple, Mapping, Namespace)
KEPT_FROM = 16  # larger values are weighed once a render: only namespaces ever change
_Known = dict[int, tuple[object, int]]  # by id; the values are held, so that no id comes again
_KNOWN: ContextVar[_Known] = ContextVar("weights of a render's values")


@contextmanager
def weighing() -> Iterator[None]:
    """One render: what is weighed in it is remembered until its end."""
    token = _KNOWN.set({})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def weighed(value: Any) -> Any:
    """The value itself. Raises `SecurityError` where it is larger, written out, than any prompt."""
    if type(value) not in _PLAIN and isinstance(value, _NESTED):
        known = _KNOWN.get({})
        if id(value) not in known:
            size = _count(value)
            if size is None:
                check_size(_weight(value))
            elif size >= KEPT_FROM:
                known[id(value)] = (value, size)
    return value


def check_weights(values: Iterable[Any]) -> None:
    for value in values:
        weighed(value)


def _count(value: Any) -> int | None:
    """Counted as it is written out, which is quicker than to weigh it; None beyond `SMALL`, and
    for what holds namespaces."""
    stack, size = [value], 0
    while stack:
        one = stack.pop()
        kind = type(one)
        if kind is dict:
            parts = one.values()
            try:
                size += len("".join(one))
            except TypeError:  # not all of its keys are texts
                return None
        elif kind is list or kind is tuple:
            parts = one
        else:
            return None
        size += len(parts)
        for part in parts:
            if type(part) is str:
                size += len(part)
            elif type(part) not in _PLAIN and isinstance(part, _NESTED):
                stack.append(part)
        if size > SMALL:
            return None
    return size


def _weight(value: Any) -> int:
    """Characters and elements. Of what holds itself, each round counts once."""
    known, here = _KNOWN.get({}), dict[int, int]()
    stack, may_change = [value], False
    while stack:  # no recursion: a template may nest deeper than Python
        one = stack[-1]
        parts = [part for part in _parts(one) if _is_nested(part)]
        missing = [p for p in parts if id(p) not in here and id(p) not in known]
        if id(one) not in here and missing:
            here[id(one)] = 1  # until it is known; and for what leads back to it
            stack += missing
            continue
        stack.pop()
        size = 1 + sum(_size_of(part, here, known) for part in _parts(one))
        here[id(one)] = size
        may_change |= isinstance(one, Namespace)
    if not may_change:
        known[id(value)] = (value, here[id(value)])
    return here[id(value)]


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Namespace):
        yield from value._Namespace__attrs.values()
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield key
            yield held
    else:
        yield from value


def _is_nested(value: Any) -> bool:
    return isinstance(value, _NESTED)


def _size_of(part: Any, here: dict[int, int], known: _Known) -> int:
    if isinstance(part, str):
        return 1 + len(part)
    if not _is_nested(part):
        return 1
    return here[id(part)] if id(part) in here else known[id(part)][1]
