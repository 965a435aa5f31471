"""Special tokens come from the chat template alone: spelled in a message, they stay plain text.

Template and messages become one string before they are tokenized, so what a user wrote is marked
first, with a character of the private use area (`MARK`) that is taken out again behind the split on
special literals:

    mark(messages) -> render -> split on literals -> ids; what is between loses its marks -> encode

A literal can then stand in the rendered text only if the template wrote every character of it:

* within one user string, a mark follows the first character of each literal;
* across a border of a user string: where its end could begin a literal, its start could end one, or
  all of it could be the middle of one, a mark stands at that border. It stands inside of leading
  and trailing whitespace, so that a template that trims still trims, and the mark stays between the
  two parts.

Ordinary text has no such borders and is not touched, so its tokens are those of the plain
rendering. What is *not* promised: a template that deletes characters from the inside of a user
string may build a literal.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeVar

from thirdeye.server.text.tokenizer import TokenizerLike

MARK = "\ue000"  # a user's own U+E000 is dropped: the one character a message cannot hold
_NAMES = ("role", "type")  # their values are words of the protocol, and templates compare them
_LISTS = ("required", "type")  # and so are the items of these

Value = TypeVar("Value")


class SpecialTokens:
    """Marks what users wrote, and tokenizes what a template made of it."""

    def __init__(self, tokenizer: TokenizerLike) -> None:
        """A literal of one character cannot be told from text: in a chat it is always text."""
        self._ids = {text: i for text, i in tokenizer.special_tokens.items() if len(text) > 1}
        self._tokenizer = tokenizer
        self._longest = max(map(len, self._ids), default=0)
        self._heads = {text[:k] for text in self._ids for k in range(1, len(text))}
        self._tails = {text[k:] for text in self._ids for k in range(1, len(text))}
        literal = _any_of(sorted(self._ids)) or "(?!)"  # which nothing matches
        self._split = re.compile(f"({literal})")
        self._first_char = re.compile(f"(?={literal}).", re.DOTALL)

    def mark(self, value: Value) -> Value:
        """A copy of plain data (strings, lists, dicts and their keys) with every string marked."""
        marked: object = value
        if isinstance(value, str):
            marked = self._mark_text(value)
        elif isinstance(value, list | tuple):
            marked = [self.mark(item) for item in value]
        elif isinstance(value, Mapping):
            marked = {self._mark_name(k): self._mark_field(k, v) for k, v in value.items()}
        return marked  # type: ignore[return-value] # same shape, seen by the three branches

    def mark_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """What a request says to the template by name: words that it compares are left as names."""
        return {
            name: self._mark_word(value) if isinstance(value, str) else self.mark(value)
            for name, value in variables.items()
        }

    def encode(self, rendered: str) -> list[int]:
        """Token ids of a rendered text: literals are ids, the rest is text without its marks."""
        ids: list[int] = []
        parts = self._split.split(rendered)  # what the group matched stands at the odd places
        for i, literal in enumerate(parts):
            if i % 2:
                before, behind = self._tokenizer.strips.get(literal, (False, False))
                parts[i - 1] = parts[i - 1].rstrip() if before else parts[i - 1]
                parts[i + 1] = parts[i + 1].lstrip() if behind else parts[i + 1]
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self._ids[part])
            elif part:
                ids += self._tokenizer.encode(part.replace(MARK, ""), follows_special=i > 0)
        return ids

    def _mark_field(self, key: object, value: object) -> object:
        if key in _LISTS and isinstance(value, list):
            return [self._mark_word(item) for item in value]
        return self._mark_name(value) if key in _NAMES else self.mark(value)

    def _mark_word(self, word: object) -> object:
        """A name, or a literal that is spelled like one."""
        is_literal = isinstance(word, str) and self._first_char.search(word) is not None
        return self.mark(word) if is_literal else self._mark_name(word)

    def _mark_name(self, name: object) -> object:
        """Names are looked up and compared by the template: an identifier is left as it is."""
        return name if isinstance(name, str) and name.isidentifier() else self.mark(name)

    def _mark_text(self, text: str) -> str:
        text = text.replace(MARK, "")
        places = sorted(self._borders(text))
        cuts = [0, *places, len(text)]
        pieces = [text[a:b] for a, b in pairwise(cuts)]
        return self._first_char.sub(rf"\g<0>{MARK}", MARK.join(pieces))

    def _borders(self, text: str) -> set[int]:
        """Where a mark keeps `text` from being part of a literal together with its neighbours.

        Both with and without the whitespace around it, as a template may trim or not.
        """
        size, places = len(text), set[int]()
        lead, trail = size - len(text.lstrip()), len(text.rstrip())
        if lead == size:  # nothing to trim to
            lead, trail = 0, size
        for start in (0, lead):  # a literal that ends in here: mark before what it ends with
            for end in range(start + 1, min(start + self._longest, size) + 1):
                if text[start:end] in self._tails:
                    places.add(lead if end > lead else start)
        for end in (trail, size):  # a literal that begins in here: mark behind what it begins with
            for start in range(max(end - self._longest, 0), end):
                if text[start:end] in self._heads:
                    places.add(trail if start < trail else end)
        if any(self._is_middle(text[a:b]) for a in (0, lead) for b in (trail, size)):
            places.add(lead)
        return places

    def _is_middle(self, text: str) -> bool:
        return 0 < len(text) < self._longest and any(text in literal for literal in self._ids)


def _any_of(literals: Iterable[str]) -> str:
    """A regex for the longest of `literals`. Shared beginnings are written once (a trie), so that
    trying one place costs the longest literal's length, not the number of literals."""
    rests: dict[str, list[str]] = {}
    for literal in literals:
        rests.setdefault(literal[:1], []).append(literal[1:])
    is_end = rests.pop("", None) is not None
    if not rests:
        return ""
    branches = "|".join(re.escape(char) + _any_of(rest) for char, rest in rests.items())
    return f"(?:{branches})?" if is_end else f"(?:{branches})"
