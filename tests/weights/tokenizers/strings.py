"""Texts that tokenizers get wrong: code, runs of blanks, digits, scripts, emoji, broken UTF-8.

Seeded: the n-th text of a seed is the same everywhere.
"""

import random
import unicodedata
from collections.abc import Callable, Iterator

BLANKS = " \t\n\r\v\f\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\ufeff"
LIST = (
    "def return class self if else for in import lambda x_1 camelCase HTTPServer don't it'S I'LL "
    "naïve Straße ŒUVRE résumé re\u0301sume\u0301 Ǆ \ufb01 İstanbul \u017f the of and <s> </s> "
    "<0x0A> <|im_end|> [INST] \u2581 Ġ Ċ \u200d"
)
WORDS = LIST.split(" ")
SIGNS = "+-*/=<>!&|^~%@#$:;,.?()[]{}'\"`\\_\u2026\u2014\u2013«»¿¡€£¥§©®±\u00d7÷"
EMOJI = "👍👩🏽👨👧🏳🌈❤🇩🇪🇯🇵🤷🏻♂🙂✈"
JOINERS = "\u200d\ufe0f\ufe0e\u20e3\U000e0067"
SCRIPTS = [
    (0x4E00, 0x9FA5), (0x3041, 0x30FF), (0xAC00, 0xD7A3), (0x400, 0x45F), (0x391, 0x3C9),
    (0x5D0, 0x5EA), (0x620, 0x669), (0x905, 0x96F), (0xE01, 0xE5B), (0x10A0, 0x10FF),
    (0x300, 0x36F), (0x1F00, 0x1FFF), (0xFF01, 0xFF5E), (0x10400, 0x1044F), (0x20000, 0x20100),
]  # fmt: skip


def texts(seed: int) -> Iterator[str]:
    """Without end. Each is of one kind, or of several.

    Characters that Unicode has not given out are left out: what they will be, each library guesses.
    """
    draw = random.Random(seed)
    while True:
        text = "".join(draw.choice(KINDS)(draw) for _ in range(draw.randint(1, 4)))
        yield "".join(c for c in text if unicodedata.category(c) != "Cn")


def code(draw: random.Random) -> str:
    lines = []
    for _ in range(draw.randint(1, 4)):
        indent = draw.choice(["", "    ", "\t", "        ", "   "])
        parts = [draw.choice([draw.choice(WORDS), draw.choice(SIGNS), " "]) for _ in range(6)]
        lines.append(indent + draw.choice(["", " "]).join(parts))
    return draw.choice(["\n", "\r\n", "\n\n"]).join(lines)


def prose(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 8)))


def blanks(draw: random.Random) -> str:
    return "".join(
        draw.choice(BLANKS) * draw.choice([1, 1, 2, 3, 9, 40]) for _ in range(draw.randint(1, 4))
    )


def digits(draw: random.Random) -> str:
    groups = [draw.choice(["0123456789", "٠١٢٣٤", "०१२", "½²Ⅷ"]) for _ in range(3)]
    return "".join(
        "".join(draw.choice(group) for _ in range(draw.randint(1, 7))) + draw.choice([" ", ",", ""])
        for group in groups
    )


def script(draw: random.Random) -> str:
    low, high = draw.choice(SCRIPTS)
    text = "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 8)))
    return unicodedata.normalize(draw.choice(["NFC", "NFD", "NFKD"]), text)


def emoji(draw: random.Random) -> str:
    return "".join(
        draw.choice(EMOJI) + draw.choice(["", "", draw.choice(JOINERS)])
        for _ in range(draw.randint(1, 6))
    )


def broken(draw: random.Random) -> str:
    """What a decoder makes of bytes that are no UTF-8, and of any."""
    return draw.randbytes(draw.randint(1, 12)).decode(errors="replace")


def anything(draw: random.Random) -> str:
    codes = [draw.randint(0, draw.choice([0x7F, 0x7FF, 0xD7FF, 0x10FFFD])) for _ in range(5)]
    return "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)


KINDS: list[Callable[[random.Random], str]] = [
    code, prose, blanks, digits, script, emoji, broken, anything,
]  # fmt: skip
