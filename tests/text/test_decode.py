"""Bytes to text: whatever the cuts, the joined text is that of all bytes decoded at once."""

from itertools import combinations, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.text.incremental_decoder import IncrementalDecoder

# Starts and continuations of characters of two to four bytes, and the awkward ones: overlong forms
# (C0, E0 80), surrogates (ED A0), beyond U+10FFFF (F4 90, F5), a lone continuation, ASCII.
BYTES = bytes.fromhex("41 80 a0 90 bf c0 c3 e0 e2 ed f0 f4 f5 ff")
SAMPLES = ["aé", "€x", "🎉", "👩\u200d👩\u200d👧", "e\u0301", "\U0010ffff", "你好", "\x00\ufffd"]


def cuts(raw: bytes) -> list[list[bytes]]:
    """Every way to cut `raw` into pieces."""
    ways = []
    for n in range(len(raw)):
        for places in combinations(range(1, len(raw)), n):
            ends = [0, *places, len(raw)]
            ways.append([raw[a:b] for a, b in pairwise(ends)])
    return ways


def decode(pieces: list[bytes]) -> str:
    decoder = IncrementalDecoder()
    return "".join([decoder.feed(piece) for piece in pieces]) + decoder.flush()


@pytest.mark.parametrize("text", SAMPLES)
def test_every_split_of_real_text(text: str) -> None:
    raw = text.encode()[:12]
    for pieces in cuts(raw):
        assert decode(pieces) == raw.decode("utf-8", "replace")


def test_every_short_string_of_awkward_bytes_byte_by_byte() -> None:
    """Invalid bytes become U+FFFD exactly as in one piece (14^4 strings)."""
    for values in product(BYTES, repeat=4):
        raw = bytes(values)
        assert decode([bytes([b]) for b in values]) == raw.decode("utf-8", "replace")


@given(
    st.lists(
        st.one_of(st.binary(max_size=4), st.lists(st.sampled_from(BYTES), max_size=4).map(bytes))
    )
)
def test_any_split_equals_the_whole(pieces: list[bytes]) -> None:
    assert decode(pieces) == b"".join(pieces).decode("utf-8", "replace")


@given(st.text(), st.data())
def test_what_was_sent_is_never_taken_back_and_whole_characters_do_not_wait(
    text: str, data: st.DataObject
) -> None:
    raw = text.encode()
    end = data.draw(st.integers(0, len(raw)))
    decoder = IncrementalDecoder()
    sent = decoder.feed(raw[:end])
    assert text.startswith(sent)
    assert len(raw[:end]) - len(sent.encode()) <= 3
    assert decoder.is_pending == (sent.encode() != raw[:end])


def test_an_unfinished_character_at_the_end_is_one_replacement() -> None:
    decoder = IncrementalDecoder()
    assert decoder.feed("a🎉".encode()[:-1]) == "a"
    assert decoder.is_pending
    assert decoder.flush() == "\ufffd"
    assert not decoder.is_pending
