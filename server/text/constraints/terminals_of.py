"""What the terminals of a grammar may hold."""

import re

from thirdeye.server.text.constraints.constraint import works
from thirdeye.server.text.constraints.string_terminals import holding, without_text


def free_of(grammar: str, mark: str) -> str:
    """The grammar with terminals that do not hold `mark`; a text of several may still."""
    lines: list[str] = []

    def named(found: "re.Match[str]") -> str:
        if found["regex"] is None:
            return found[0]
        lines.append(f"FREE_OF_MARK_{len(lines)}: {found[0]} & {without_text(mark)}")
        return f"FREE_OF_MARK_{len(lines) - 1}"

    text = _TERMINALS.sub(named, grammar)
    return "\n".join([text, *lines])


def may_hold(grammar: str, mark: str) -> bool:
    """Whether a terminal of a grammar, or a text in its rules, may hold `mark`."""
    for found in _TERMINALS.finditer(grammar):
        if found["comment"]:
            continue
        if found["name"]:
            probe = found["name"]
        elif found["common"]:
            probe = found["common"]
        else:
            probe = found[0]
        if probe.startswith('"'):
            if mark in probe.encode().decode("unicode_escape"):
                return True
            continue
        rules = _START.sub("of_start", grammar)
        if works(f"{rules}\nstart: PROBE_\nPROBE_: {probe} & /{holding(mark)}/\n"):
            return True
    return False


_TERMINALS = re.compile(
    r"""^[?!]?(?P<name>[A-Z_][A-Z0-9_]*)(?:\.-?\d+)?\s*:|%import\s+common\.(?P<common>[A-Z_]+)
    |(?P<comment>//[^\n]*|\#[^\n]*)|"(?:\\.|[^"\\\n])*"|(?P<regex>/(?![/*])(?:\\.|[^/\\\n])+/[a-z]*)""",
    re.VERBOSE | re.MULTILINE,
)
_START = re.compile(r"\bstart\b(?=[^\"/\n]*(?:$|:))", re.MULTILINE)
