"""How large what a template computes may become, judged before it is computed.

One operation of a template can ask for any amount of memory: a power, a width in a format, a
replacement of every letter. Each function here takes the operands and raises `SecurityError` where
the result could be larger than any prompt. This file knows no template engine's machinery.
"""

import re
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from jinja2.exceptions import SecurityError

MAX_CHARS = 16 * 1024 * 1024  # of one string; a request's body is at most 4 MiB
MAX_ARGUMENT = 1_000_000
MAX_ITEMS = 200_000  # of a list that is added to or multiplied
MAX_BITS = 4096  # of a whole number that is computed
_NUMBER = re.compile(r"\d+")
_PERCENT = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


def check_size(num_chars: int) -> None:
    if num_chars > MAX_CHARS:
        raise SecurityError(f"the template makes more than {MAX_CHARS} characters")


def check_numbers(values: Iterable[Any]) -> None:
    """Numbers that are handed to a function are widths, counts and places."""
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_ARGUMENT:
            raise SecurityError(f"a number above {MAX_ARGUMENT} in a call")


def check_operation(operator: str, left: Any, right: Any) -> None:
    """`left operator right`, for + * ** and %."""
    if isinstance(left, int) and isinstance(right, int):
        _check_whole_numbers(operator, left, right)
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        _check_length(left, len(left) + len(right))
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, Sized) and isinstance(times, int):
                _check_length(sequence, len(sequence) * times)
    elif operator == "%" and isinstance(left, str):
        check_percent(left, right)


def _check_length(kind: Any, length: int) -> None:
    check_size(length)
    if not isinstance(kind, str) and length > MAX_ITEMS:
        raise SecurityError(f"a list of more than {MAX_ITEMS} items")


def _check_whole_numbers(operator: str, left: int, right: int) -> None:
    bits = {
        "*": left.bit_length() + right.bit_length(),
        "**": left.bit_length() * max(right, 0),
    }.get(operator, 0)
    if bits > MAX_BITS:
        raise SecurityError(f"a number of more than {MAX_BITS} bits")


def check_percent(text: str, values: Any) -> None:
    """`text % values`, as C's printf has it."""
    widths = [number for spec in _PERCENT.finditer(text) for number in spec.groups() if number]
    if "*" in widths:
        raise SecurityError("a width that is computed in a format")
    check_size(len(text) + _sum(widths) + text.count("%") * _longest(values))


def check_format(text: str, values: Any) -> None:
    """`text.format(values)`: any number in it may be a width, any brace take the longest value."""
    check_size(len(text) + _sum(_NUMBER.findall(text)) + text.count("{") * _longest(values))


def check_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    """`text.name(*args)`, for those methods of strings whose result may be a product."""
    if name == "replace" and len(args) >= 2 and isinstance(args[0], str):
        times = text.count(args[0]) if args[0] else len(text) + 1
        check_size(len(text) + times * _longest(args[1:2]))
    elif name == "expandtabs":
        check_size(len(text) + text.count("\t") * next((n for n in args if type(n) is int), 8))
    elif name == "join" and args and isinstance(args[0], Sized):
        check_join(text, args[0])
    elif name == "translate":
        check_size(len(text) * max(1, _longest(args[0] if args else ())))


def check_wrap(text: str, options: Any) -> None:
    """A line may be of one character, and what stands between lines of any length."""
    check_size(len(text) * (1 + _longest(options)))


def check_sum(values: Iterable[Any]) -> None:
    """A sum of lists is a list for each addition: texts and lists are joined and added instead."""
    if any(isinstance(value, Sized) for value in values):
        raise SecurityError("a sum of what is no number")


def listed(pieces: Any) -> Any:
    """Of an iterator, the pieces that it gives, while they fit into any text."""
    if isinstance(pieces, (Sized, str)) or not isinstance(pieces, Iterable):
        return pieces
    found, size = [], 0
    for piece in pieces:
        size += 1 + (len(piece) if isinstance(piece, str) else 0)
        check_size(size)
        found.append(piece)
    return found


def check_join(separator: str, pieces: Any) -> None:
    """All pieces and what stands between them; an iterator's pieces are not known beforehand."""
    if isinstance(pieces, Sized):
        check_size(len(separator) * len(pieces))
    if isinstance(pieces, (list, tuple)):
        check_size(sum(len(piece) for piece in pieces if isinstance(piece, str)))


def _sum(numbers: Iterable[str]) -> int:
    return sum(int(n) if len(n) <= 9 else MAX_CHARS for n in numbers)


def _longest(values: Any) -> int:
    """Characters of the longest string among the values of a format."""
    if isinstance(values, str):
        return len(values)
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return max((len(value) for value in values if isinstance(value, Sized)), default=0)
    return 0
