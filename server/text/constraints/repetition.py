"""How long a text a pattern or grammar can prescribe, read off before anything compiles it.

Fourteen bytes, `a{4000000}`, prescribe four million characters: llguidance walks all of them to see
where they lead, for seconds and megabytes. So the longest text that is prescribed is measured here
by the written repetitions: a sequence is the sum of its parts, alternatives the longest of them,
`{m,n}` counts m times, and a character class one character. That is an upper bound of what is
forced, and costs one pass over the text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_REPEATED = 4_096  # characters, as many as a pattern may be long; some 300 bytes each
_HUGE = 10 * MAX_REPEATED  # sizes are not counted beyond it


@dataclass(frozen=True, slots=True)
class PatternPart:
    """A piece of a pattern: something of a size, or one of the marks ( ) |, or "times" m."""

    kind: str
    value: int = 0


def repeated_too_long(size: int) -> str:
    """The rule that is broken, or nothing."""
    if size <= MAX_REPEATED:
        return ""
    return f"must prescribe a text of at most {MAX_REPEATED:,} characters by its repetitions."


def regex_length(pattern: str) -> int:
    """Of the longest text that a regular expression prescribes, at most `_HUGE`."""
    return _measure(_regex_parts(pattern))


def lark_length(grammar: str) -> int:
    """The same of a grammar in Lark's notation: of its longest rule, through those it names."""
    rules = _lark_rules(grammar)
    known: dict[str, int] = {}
    entered: set[str] = set()
    stack = list(rules)
    while stack:  # no recursion: a grammar's rules may name one another a thousand deep
        name = stack[-1]
        if name in known:  # by another way: to measure it for each would be the square of the work
            stack.pop()
            continue
        new = [] if name in entered else [n for n in _names(rules[name]) if n in rules]
        entered.add(name)
        if missing := [n for n in new if n not in entered]:
            stack += missing
        else:
            stack.pop()
            # One that names itself prescribes no end: on its own way it counts nothing.
            known[name] = _measure(_lark_parts(rules[name], known))
    return max(known.values(), default=0)


def _measure(parts: Iterator[PatternPart]) -> int:
    frames = [_Group()]
    for part in parts:
        here = frames[-1]
        if part.kind == "size":
            here.add(part.value)
        elif part.kind == "times":
            here.repeat(part.value)
        elif part.kind == "|":
            here.alternative()
        elif part.kind == "(":
            frames.append(_Group())
        elif len(frames) > 1:
            inner = frames.pop().length()
            frames[-1].add(inner)
    while len(frames) > 1:  # a group that does not end: the compiler will say so
        inner = frames.pop().length()
        frames[-1].add(inner)
    return frames[0].length()


class _Group:
    """A group being read: the alternatives before, and the sequence so far."""

    def __init__(self) -> None:
        self._longest = self._sum = self._last = 0

    def add(self, size: int) -> None:
        self._sum = min(self._sum + size, _HUGE)
        self._last = size

    def repeat(self, times: int) -> None:
        more = self._last * (max(times, 1) - 1)
        self._sum, self._last = min(self._sum + more, _HUGE), min(self._last + more, _HUGE)

    def alternative(self) -> None:
        self._longest, self._sum, self._last = self.length(), 0, 0

    def length(self) -> int:
        return max(self._longest, self._sum)


_TIMES = re.compile(r"\{\s*(\d+)\s*(,\s*\d*\s*)?\}")
_GROUP_FLAGS = re.compile(r"\?(P?<[^>]*>|[A-Za-z-]*:?|[=!]|<[=!])")
_ESCAPE = re.compile(r"\\(?:[pPxuU]\{[^}]*\}|.)", re.DOTALL)


def _regex_parts(pattern: str) -> Iterator[PatternPart]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            found = _ESCAPE.match(pattern, at)
            at = found.end() if found else at + 1
            yield PatternPart("size", 1)
        elif char == "[":
            at = _end_of_class(pattern, at)
            yield PatternPart("size", 1)
        elif char == "(":
            flags = _GROUP_FLAGS.match(pattern, at + 1)
            at = flags.end() if flags else at + 1
            yield PatternPart("(")
        elif char in ")|":
            at += 1
            yield PatternPart(char)
        elif char == "{" and (times := _TIMES.match(pattern, at)):
            at = times.end()
            yield PatternPart("times", _count(times[1]))
        else:
            at += 1
            if char not in "*+?":
                yield PatternPart("size", 1)


def _end_of_class(pattern: str, at: int) -> int:
    """Behind the bracket that closes the class at `at`; classes may nest, and begin with one."""
    depth, at = 1, at + 1
    at += pattern.startswith("^", at)
    at += pattern.startswith("]", at)
    while at < len(pattern) and depth:
        depth += {"[": 1, "]": -1}.get(pattern[at], 0)
        at += 2 if pattern[at] == "\\" else 1
    return at


_LARK_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*")i?|(?P<regex>/(?![/*])(?:\\.|[^/\\\n])+/)[a-z]*
    |(?P<times>\{\s*\d+\s*(?:,\s*\d*\s*)?\}|~\s*\d+(?:\s*\.\.\s*\d+)?)
    |(?P<name>[A-Za-z_]\w*)|(?P<mark>[()\[\]|])|(?P<comment>//[^\n]*|\#[^\n]*)""",
    re.VERBOSE,
)
_LARK_RULE = re.compile(r"^[?!]?([A-Za-z_]\w*)(?:\.-?\d+)?(?:\[[^\]\n]*\])?\s*:", re.MULTILINE)
_CLOSING = {"[": "(", "]": ")"}


def _lark_rules(grammar: str) -> dict[str, str]:
    """Each rule's text, in their order; what stands before the first is nobody's."""
    heads = list(_LARK_RULE.finditer(grammar))
    ends = [*(head.start() for head in heads), len(grammar)][1:]
    return {head[1]: grammar[head.end() : end] for head, end in zip(heads, ends, strict=True)}


def _names(text: str) -> Iterator[str]:
    return (token["name"] for token in _LARK_TOKEN.finditer(text) if token.lastgroup == "name")


def _lark_parts(text: str, known: Mapping[str, int]) -> Iterator[PatternPart]:
    for token in _LARK_TOKEN.finditer(text):
        kind, said = token.lastgroup, token[0]
        if kind == "string":  # a schema may stand in the grammar, and a pattern in its strings
            yield PatternPart("size", max(len(said) - 2, regex_length(said[1:-1])))
        elif kind == "regex":
            yield PatternPart("size", regex_length(token["regex"][1:-1]))
        elif kind == "times":
            numbers = re.findall(r"\d+", said)
            yield PatternPart("times", _count(numbers[0]))
        elif kind == "name":
            yield PatternPart("size", known.get(said, 0))
        elif kind == "mark":
            yield PatternPart(_CLOSING.get(said, said))


def _count(digits: str) -> int:
    return int(digits) if len(digits) < 10 else _HUGE
