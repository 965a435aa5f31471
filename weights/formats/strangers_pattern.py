"""Regular expressions that a checkpoint or an adapter brings: they run on our processor, and Python
tries one alternative after the other, all combinations of them if need be.

How many there are is counted from the text, not by trying: alternatives in a group add up, what
stands one behind the other multiplies, something optional is two, something repeated as many as a
name has characters. What may take long is not taken.
"""

import re
from collections.abc import Collection
from functools import lru_cache

MAX_LENGTH = 1000
MAX_PATTERNS = 1024  # of one list: more than a large model has modules
LONGEST_NAME = 128  # of a module; what is longer is matched by nothing
MAX_WAYS = 8 * LONGEST_NAME**3  # three of "any number of" and 8 alternatives; tenths of a second
TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?:)?|\)|\||[*+?]\??|\{[^}]*\}\??|.", re.DOTALL
)


def too_much_of(text: str) -> str:
    """What is wrong with an expression, as the end of a sentence; "" if it ends in time."""
    if len(text) > MAX_LENGTH:
        return f"has {len(text):,} characters, the limit is {MAX_LENGTH:,}"
    if _ways(text) > MAX_WAYS:
        return f"repeats too much in {text!r:.60}: name the modules in a list"
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return f"{text!r:.60} is no regular expression"
    return ""


def too_much_of_all(texts: Collection[str]) -> str:
    """What is wrong with a list, of which each is matched with each name; each is looked at by
    itself besides."""
    if len(texts) > MAX_PATTERNS:
        return f"has {len(texts):,} patterns, the limit is {MAX_PATTERNS:,}"
    if sum(map(_ways, texts)) > MAX_WAYS:
        return "repeats too much, all patterns together: name the modules"
    return ""


def matches(text: str, name: str) -> re.Match[str] | None:
    """From the name's beginning."""
    return _compiled(text).match(name) if len(name) <= LONGEST_NAME else None


_compiled = lru_cache(2 * MAX_PATTERNS)(re.compile)


def _ways(text: str) -> int:
    """At most so many combinations are tried; a repeated group may be any number."""
    groups = [(0, 1)]  # the sum of the alternatives before, the product of this one
    is_group = False  # what stands before
    for token in TOKEN.findall(text):
        before, here = groups[-1]
        if token.startswith("("):
            groups.append((0, 1))
        elif token == ")" and len(groups) > 1:
            groups.pop()
            outer, product = groups[-1]
            groups[-1] = outer, product * (before + here)
        elif token == "|":
            groups[-1] = before + here, 1
        elif token[0] in "*+{" and is_group:
            return MAX_WAYS + 1
        elif token[0] in "*+{?":
            groups[-1] = before, here * (2 if token[0] == "?" else LONGEST_NAME)
        is_group = token == ")"
        if max(groups[-1]) > MAX_WAYS:
            return MAX_WAYS + 1
    ways = 1
    for before, here in groups:
        ways *= before + here
    return ways
