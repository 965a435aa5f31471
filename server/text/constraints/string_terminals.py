"""What a schema asks of a string, as regular expressions that match the whole of it.

For strings that stand in a text without JSON's quotes and escapes, where llguidance's own reading
of a schema does not reach.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

ANY = "(?s:.*)"
_DAY = (
    r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
_LEAP = r"(?:[12][0-9](?:0[48]|[2468][048]|[13579][26])|(?:12|16|20|24|28)00)"
_DATE = rf"(?:[12][0-9]{{3}}-(?:{_DAY})|{_LEAP}-02-29)"
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
)
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Of each format the part that every validator takes.
FORMAT_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"(?:{_DATE})T(?:{_TIME})",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ipv4": rf"(?:{_BYTE}\.){{3}}{_BYTE}",
    "email": rf"[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+){{0,8}}@(?:{_LABEL}\.){{1,4}}[a-z]{{2,24}}",
}
STRING_KEYWORDS = ("pattern", "minLength", "maxLength", "format")
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|^$]|[^\\\[()|^$]+", re.DOTALL)


def string_terminals(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(keyword, regular expression) of each of a node's keywords about strings; the expression is
    "" for one that cannot be said. Whether a pattern can be followed shows when it is compiled."""
    if "pattern" in node:
        yield "pattern", whole_pattern(str(node["pattern"]))
    least, most = node.get("minLength") or 0, node.get("maxLength")
    if least or most is not None:
        yield (
            "minLength" if least else "maxLength",
            f"(?s:.{{{least},{'' if most is None else most}}})",
        )
    if "format" in node:
        yield "format", FORMAT_PATTERNS.get(str(node["format"]), "")


def whole_pattern(pattern: str) -> str:
    """A pattern that is looked for anywhere, as one of the whole text: `^a|b` is `a.*|.*b.*`. ""
    for one with an anchor elsewhere than at the ends."""
    branches, depth = [list[str]()], 0
    for part in _PARTS.findall(pattern):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "|" and depth == 0:
            branches.append([])
        else:
            branches[-1].append(part)
    found = [*map(_anchored, branches)]
    return "|".join(found) if all(found) else ""


def _anchored(parts: list[str]) -> str:
    starts, ends = parts[:1] == ["^"], parts[-1:] == ["$"]
    inner = parts[starts : len(parts) - ends]
    if {"^", "$"}.intersection(inner) or re.search(r"\\[bBAzZ]", "".join(inner)):
        return ""
    return f"{'' if starts else ANY}(?:{''.join(inner)}){'' if ends else ANY}"


def lark_regex(pattern: str) -> str:
    """A regular expression as it stands in a grammar in Lark's notation."""
    text = re.sub(r"\\.|/", lambda m: m[0] if m[0] != "/" else r"\/", pattern, flags=re.DOTALL)
    return "/" + text.replace("\n", r"\n").replace("\r", r"\r") + "/"


def without_text(mark: str) -> str:
    """The terminal of all texts that do not hold `mark`."""
    return f"~/{holding(mark)}/"


def holding(mark: str) -> str:
    """The expression of all texts that hold `mark`."""
    literal = "".join(c if c.isalnum() and c.isascii() else f"\\u{{{ord(c):x}}}" for c in mark)
    return f"{ANY}{literal}{ANY}"
