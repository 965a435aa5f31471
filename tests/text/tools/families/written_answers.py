"""Random answers that a grammar allows."""

import random

from tests.text.byte_grammar import follower

BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]
MARKS = [
    *('"', "</parameter>", "\n</parameter>\n", "</arg_value>\n", "</｜DSML｜parameter>\n"),
    *('<|"|>', "]", "}", ")", "\n", "\\n", "*** End"),
]


def written(serialized: str, seed: int) -> str | None:
    """One of them; None for one that does not end in time."""
    chance, matcher = random.Random(seed), follower(serialized)
    raw: list[int] = []
    while len(raw) < 600 and not matcher.is_stopped():
        mask = matcher.compute_bitmask()[:32]  # 256 bytes, a bit each
        choices = [8 * at + bit for at, byte in enumerate(mask) for bit in BITS[byte]]
        if not choices or (matcher.is_accepting() and chance.random() < 0.5):
            break
        mark = list(chance.choice(MARKS).encode())
        if (
            len(choices) > 40
            and chance.random() < 0.4
            and matcher.validate_tokens(mark) == len(mark)
        ):
            tokens = mark
        else:
            plain = [i for i in choices if chr(i) in "abc 1"] if len(choices) > 40 else choices
            tokens = [chance.choice(plain or choices)]
        assert matcher.try_consume_tokens(tokens) == len(tokens)
        raw += tokens
    return bytes(raw).decode() if matcher.is_accepting() else None
