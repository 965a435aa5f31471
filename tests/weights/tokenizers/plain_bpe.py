"""BPE as its definition says it, one pair at a time: the slow twin of both encoders."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from thirdeye.weights.tokenizers.vocabulary import byte_characters

CHARACTERS = byte_characters()
WHITE_SPACE = {r"\s": r"\p{White_Space}", r"\S": r"\P{White_Space}"}


def merge(symbols: list[str], rank: Callable[[str, str], float | None]) -> list[str]:
    """The pair of lowest rank becomes one, the leftmost of several; until there is none."""
    while True:
        ranked = [
            (found, i)
            for i, (left, right) in enumerate(pairwise(symbols))
            if (found := rank(left, right)) is not None
        ]
        if not ranked:
            return symbols
        _, i = min(ranked)
        symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]


def compiled(expressions: Iterable[str]) -> list[regex.Pattern[str]]:
    """In the words of the `regex` package: code points, and white space as Unicode has it."""
    return [regex.compile(_translated(expression)) for expression in expressions]


def _translated(expression: str) -> str:
    text = re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: re.escape(chr(int(m[1], 16))), expression)
    return re.sub(r"\\[sS]", lambda m: WHITE_SPACE[m[0]], text)


def cut(text: str, patterns: Sequence[regex.Pattern[str]]) -> list[str]:
    """Each expression cuts inside the pieces of the one before; what it leaves is a piece too."""
    pieces = [text]
    for pattern in patterns:
        pieces = [part for piece in pieces for part in _isolated(piece, pattern)]
    return pieces


def _isolated(text: str, pattern: regex.Pattern[str]) -> list[str]:
    parts, end = [], 0
    for match in pattern.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        if match[0]:
            parts.append(match[0])
            end = match.end()
    return [*parts, text[end:]] if end < len(text) else parts


def byte_level(
    text: str,
    patterns: Sequence[regex.Pattern[str]],
    ids: Mapping[str, int],
    ranks: Mapping[tuple[str, str], int],
    ignore_merges: bool = False,
) -> list[int]:
    """`ids` and `ranks` in GPT-2's characters for bytes."""
    found: list[int] = []
    for piece in cut(text, patterns):
        symbols = [CHARACTERS[byte] for byte in piece.encode()]
        whole = "".join(symbols)
        if ignore_merges and whole in ids:
            symbols = [whole]
        found += [ids[symbol] for symbol in merge(symbols, lambda *pair: ranks.get(pair))]
    return found


def pieces(
    text: str, ids: Mapping[str, int], rank: Callable[[str, str], float | None]
) -> list[int]:
    """SentencePiece's: over characters, spaces written as its pieces have them; a symbol that is no
    piece becomes its bytes' tokens."""
    found: list[int] = []
    for symbol in merge(list(text), rank):
        known = ids.get(symbol)
        found += [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()] if known is None else [known]
    return found
