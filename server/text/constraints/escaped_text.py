"""Grammars of texts, rewritten to be grammars of the same texts inside a JSON string.

    "a\\nb"     "a\\\\nb"
    /[^a]*/    (/[[^a]&&[^"\\\\\\x00-\\x1f]]+/ | /\\\\n|\\\\t|.../)*

Each character has one spelling, the one that JSON writers use. A terminal that may hold an escape
becomes a rule of its characters: the lexer takes the longest text that fits and does not go back,
and an escape of one character begins as that of another does.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache

from llguidance import LLMatcher, LLTokenizer

from thirdeye.server.text.constraints.string_terminals import lark_regex

_SAFE = r'[^"\\\x00-\x1f]'
_SPECIAL = [*map(chr, range(32)), '"', "\\"]  # what JSON escapes
_ATOM = re.compile(
    r"""(?P<open>\((?:\?P?<\w+>|\?[A-Za-z-]*:)?)|(?P<close>\))|(?P<bar>\|)|(?P<flags>\(\?[A-Za-z-]+\))
    |(?P<times>[*+?]|\{\d*,?\d*\})(?P<lazy>\??)|(?P<dot>\.)|(?P<class>\[)
    |(?P<one>\\(?:[pP](?:\{[^}]*\}|\w)|x(?:\{[^}]*\}|\w\w)|u(?:\{[^}]*\}|\w{4})|U\w{8}|.)|.)""",
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(
    r"""(?P<range>"(?:\\.|[^"\\\n])"\s*\.\.\s*"(?:\\.|[^"\\\n])")
    |(?P<string>"(?:\\.|[^"\\\n])*")(?P<fold>i?)
    |(?P<regex>/(?![/*])(?:\\.|[^/\\\n])+/)(?P<flags>[a-z]*)
    |(?P<comment>//[^\n]*|\#[^\n]*)|%import\s+common\.(?P<common>[A-Z_]+)(?!\s*->)
    |(?P<name>[A-Za-z_][\w-]*(?:\.-?\d+)?)
    |(?P<plain>[:|()*+?!\s]|\{\s*\d*\s*,?\s*\d*\s*\}|~\s*\d+(?:\s*\.\.\s*\d+)?|->)""",
    re.VERBOSE | re.DOTALL,
)


_COMMON = {  # of Lark's own terminals, those that are often imported
    "LF": r"\n",
    "CR": r"\r",
    "NEWLINE": r"(\r?\n)+",
    "WS": r"[ \t\f\r\n]+",
    "WS_INLINE": r"[ \t]+",
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[a-fA-F0-9]",
    "INT": "[0-9]+",
    "SIGNED_INT": "[+-]?[0-9]+",
    "DECIMAL": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "NUMBER": r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?",
    "LETTER": "[a-zA-Z]",
    "WORD": "[a-zA-Z]+",
    "CNAME": "[a-zA-Z_][a-zA-Z0-9_]*",
    "ESCAPED_STRING": r'"([^"\\\n]|\\.)*"',
}


_IGNORE = re.compile(r"^[ \t]*%ignore[ \t]+([^\n]+)$", re.MULTILINE)
_DEFINES = re.compile(r"\s*:")
_SKIP, _BEGUN = "ignored_texts", "begun_start"  # no name of ours begins so


class NotEscapable(ValueError):
    """A grammar that says something that is not said here of a text in a JSON string."""


def escaped_lark(grammar: str) -> str:
    """The grammar of the escaped texts. Raises `NotEscapable` for what is more than rules, texts
    and regular expressions."""
    ignored = _IGNORE.findall(grammar)
    if not ignored:
        return "".join(_escaped_token(found) for found in _tokens(grammar))
    texts = ["".join(map(_escaped_token, _tokens(text))) for text in ignored]
    rules = "".join(_between_ignored(_IGNORE.sub("", grammar)))
    # Behind what it follows alone, as in llguidance: a text does not begin with it.
    return f"of_start: {_BEGUN}\n{_SKIP}: ({' | '.join(texts)})*\n{rules}"


def _tokens(grammar: str) -> "Iterator[re.Match[str]]":
    at = 0
    while at < len(grammar):
        found = _TOKEN.match(grammar, at)
        if found is None:
            raise NotEscapable
        at = found.end()
        yield found


def _between_ignored(grammar: str) -> Iterator[str]:
    """Behind each text and terminal of a rule may stand what is ignored; none within a terminal."""
    is_rule, before = False, ""
    for found in _tokens(grammar):
        escaped = _escaped_token(found)
        name = found["name"]
        if name and _DEFINES.match(grammar, found.end()):
            is_rule = not _is_terminal(name)
            yield _BEGUN if name == "start" else escaped
        elif name == "start":
            yield _BEGUN
        elif is_rule and before != "->" and (_is_terminal(name or "x") or _is_text(found)):
            yield f"({escaped} {_SKIP})"
        else:
            yield escaped
        before = found[0] if found[0].strip() else before


def _is_text(found: "re.Match[str]") -> bool:
    return bool(found["string"] or found["regex"] or found["range"])


def _is_terminal(name: str) -> bool:
    return name.partition(".")[0].strip("_").isupper()


def _escaped_token(found: "re.Match[str]") -> str:
    if found["range"]:
        low, high = (ord(_text_of(t)) for t in re.findall(r'"(?:\\.|[^"\\])"', found["range"]))
        return escaped_regex(f"[\\u{{{low:x}}}-\\u{{{high:x}}}]")
    if found["string"]:
        text = _text_of(found["string"])
        escaped = json.dumps(text, ensure_ascii=False)[1:-1]
        if found["fold"] and escaped != text:
            raise NotEscapable
        return json.dumps(escaped, ensure_ascii=False) + found["fold"]
    if found["regex"]:
        return escaped_regex(found["regex"][1:-1], found["flags"])
    if found["name"]:
        return _name(found["name"].partition(".")[0])
    if found["common"]:
        if found["common"] not in _COMMON:
            raise NotEscapable
        return f"{_name(found['common'])}: {escaped_regex(_COMMON[found['common']])}"
    return "" if found["comment"] else found[0]


def _name(name: str) -> str:
    """A terminal is a rule here; no two names become one."""
    return f"term_{name.lower()}" if _is_terminal(name) else f"of_{name}"


def _text_of(string: str) -> str:
    try:
        return str(json.loads(string))
    except ValueError:
        raise NotEscapable from None


def escaped_regex(pattern: str, flags: str = "") -> str:
    """The expression of the escaped texts, as part of a rule. Raises `NotEscapable`."""
    parts = [*_parts(pattern)]
    if not any(kind == "one" and _specials_of(text) for kind, text in parts):
        return lark_regex(pattern) + flags
    if set(flags) - {"s", "m", "u"} or any(kind == "flags" for kind, _ in parts):
        raise NotEscapable
    return " ".join(_as_rule(parts, "s" in flags))


def _parts(pattern: str) -> Iterator[tuple[str, str]]:
    """(kind, text), a class of characters as one."""
    at = 0
    while at < len(pattern):
        found = _ATOM.match(pattern, at)
        assert found is not None, "some character is always there"
        kind, at = str(found.lastgroup), found.end()
        if kind == "class":
            at = _end_of_class(pattern, found.start())
            yield "one", pattern[found.start() : at]
        elif kind == "lazy":
            yield "times", found["times"]
        else:
            yield ("one" if kind == "dot" else kind), found[0]


def _as_rule(parts: list[tuple[str, str]], dot_all: bool) -> Iterator[str]:
    modes = [dot_all]
    for i, (kind, text) in enumerate(parts):
        if kind == "open":
            on, _, off = text.strip("(?:").partition("-") if text.startswith("(?") else ("",) * 3
            if text.endswith(">"):
                on = off = ""
            if set(on + off) - {"s", "m", "u"}:
                raise NotEscapable
            modes.append((modes[-1] or "s" in on) and "s" not in off)
            yield "("
        elif kind == "close":
            modes.pop()
            yield ")" if len(modes) else _fail()
        elif kind == "bar":
            is_empty = i == 0 or parts[i - 1][0] in ("open", "bar")
            is_last = i + 1 == len(parts) or parts[i + 1][0] in ("close", "bar")
            yield ('"" |' if is_empty else "|") + (' ""' if is_last else "")
        elif kind == "times":
            yield text
        else:
            char = text if text != "." else (r"[\s\S]" if modes[-1] else r"[^\n]")
            is_many = i + 1 < len(parts) and parts[i + 1] in (("times", "*"), ("times", "+"))
            yield _character(char, is_many)


def _fail() -> str:
    raise NotEscapable


def _character(text: str, is_many: bool) -> str:
    """The rule of one character; of several in a row at once where that may be."""
    special = _specials_of(text)
    escapes = "|".join(re.escape(json.dumps(char)[1:-1]) for char in special)
    if special and (len(text) == 1 or (text[0] == "\\" and text[1] not in "DWSPpsw")):
        return lark_regex(escapes)
    plain = f"[{text if text.startswith('[') else f'[{text}]'}&&{_SAFE}]" if special else text
    plain = lark_regex(plain + "+" * is_many)
    return f"({plain} | {lark_regex(escapes)})" if special else plain


def _end_of_class(pattern: str, at: int) -> int:
    """Behind the bracket that closes the class at `at`; classes may nest, and begin with one."""
    depth, at = 1, at + 1
    at += pattern.startswith("^", at)
    at += pattern.startswith("]", at)
    while at < len(pattern) and depth:
        depth += {"[": 1, "]": -1}.get(pattern[at], 0)
        at += 2 if pattern[at] == "\\" else 1
    return at


@lru_cache(512)
def _specials_of(text: str) -> tuple[str, ...]:
    """Which of the characters that JSON escapes an expression of one character matches."""
    if text == ".":
        return tuple(_SPECIAL)
    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_regex(text), log_level=0)
    if matcher.is_error():
        raise NotEscapable
    mask = matcher.compute_bitmask()
    return tuple(c for c in _SPECIAL if mask[ord(c) // 8] >> ord(c) % 8 & 1)
