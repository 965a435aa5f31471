"""Random answers that a grammar allows."""

import random
from functools import lru_cache

from tests.text.byte_grammar import follower

BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]
MANY = 40
MARKS = [
    *('"', "</parameter>", "\n</parameter>\n", "</arg_value>\n", "</｜DSML｜parameter>\n"),
    *('<|"|>', "]", "}", ")", "\n", "\\n", "*** End"),
]


@lru_cache(maxsize=4096)
def allowed(mask: bytes) -> tuple[list[int], list[int]]:
    """The bytes that a mask of 256 bits allows; and those of them that are plain, or all, where
    many are. Few masks come, and often."""
    choices = [8 * at + bit for at, byte in enumerate(mask) for bit in BITS[byte]]
    plain = [i for i in choices if chr(i) in "abc 1"] if len(choices) > MANY else choices
    return choices, plain or choices


def written(serialized: str, seed: int) -> str | None:
    """One of them; None for one that does not end in time."""
    chance, matcher = random.Random(seed), follower(serialized)
    raw: list[int] = []
    while len(raw) < 600 and not matcher.is_stopped():
        choices, plain = allowed(bytes(matcher.compute_bitmask()[:32]))  # 256 bytes, a bit each
        if not choices or (matcher.is_accepting() and chance.random() < 0.5):
            break
        mark = list(chance.choice(MARKS).encode())
        if (
            len(choices) > MANY
            and chance.random() < 0.4
            and matcher.validate_tokens(mark) == len(mark)
        ):
            tokens = mark
        else:
            tokens = [chance.choice(plain)]
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        raw += tokens
    return bytes(raw).decode() if matcher.is_accepting() else None
