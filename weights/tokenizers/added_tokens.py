"""Added tokens: words that are found in text before it is cut into pieces and merged.

Some are special (control tokens, which text never becomes), the others are text like any other:
runs of blanks, placeholders, words that a model was given later. What is found is the longest
literal at the leftmost place, as the `tokenizers` package finds it; a token may want to stand alone
and may swallow the white space beside it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What Unicode calls a word's character: letters and marks (by the first letter of their category),
# digits, numerals that are letters, connectors; the two joiners; letters in circles and squares.
WORD_CLASSES = ("L", "M")
WORD_CATEGORIES = ("Nd", "Nl", "Pc")
OTHER_WORD_CHARACTERS = re.compile("[\u200c\u200dⒶ-ⓩ🄰-🅉🅐-🅩🅰-🆉]")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """`normalized`: it is looked for in text that has been normalized; else in text as it came."""

    literal: str
    token_id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


class AddedTokenFinder:
    """Cuts text at the added tokens in it."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.literal: token for token in tokens}
        literals = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, literals)) or "(?!)")

    def split(self, text: str) -> Iterator[str | int]:
        """Ids of the tokens that are found, and the text between them, in order.

        A token of blanks counts, as in the package, even where its neighbour has swallowed them;
        not if it swallows blanks before it itself, for then nothing is left of it.
        """
        end = 0  # of what has been given out
        for match in self._pattern.finditer(text):
            token, (start, stop) = self._tokens[match[0]], match.span()
            if token.single_word and _is_in_a_word(text, start, stop):
                continue
            if token.lstrip:
                start = max(end, _blanks_from(text, start))
            if token.rstrip:
                stop = _blanks_to(text, stop)
            if start >= stop:
                continue
            if start > end:
                yield text[end:start]
            yield token.token_id
            end = stop
        if end < len(text):
            yield text[end:]


def _is_in_a_word(text: str, start: int, stop: int) -> bool:
    before, behind = text[start - 1 : start], text[stop : stop + 1]
    return any(map(_is_of_a_word, before + behind))


def _is_of_a_word(character: str) -> bool:
    """`\\w` of the package's expressions. Python's has no marks, and has fractions."""
    category = unicodedata.category(character)
    return (
        category.startswith(WORD_CLASSES)
        or category in WORD_CATEGORIES
        or OTHER_WORD_CHARACTERS.match(character) is not None
    )


def _blanks_from(text: str, start: int) -> int:
    while start and text[start - 1].isspace():
        start -= 1
    return start


def _blanks_to(text: str, stop: int) -> int:
    while stop < len(text) and text[stop].isspace():
        stop += 1
    return stop
