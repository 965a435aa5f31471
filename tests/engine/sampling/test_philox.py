"""The counter-based generator against the published answers, and against itself in plain Python."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thirdeye.server.engine.sampling.philox import as_int64, philox, uniform

WORD = st.integers(0, 2**32 - 1)


def philox_by_hand(left: int, right: int, key: int) -> tuple[int, int]:
    """As in the paper, with Python's integers, which never overflow."""
    for _ in range(10):
        high, low = divmod(left * 0xD256D193, 2**32)
        left, right = high ^ key ^ right, low
        key = (key + 0x9E3779B9) % 2**32
    return left, right


def philox_of(left: int, right: int, key: int) -> tuple[int, int]:
    bits = philox(*(torch.tensor([word]) for word in (left, right, key)))
    return int(bits[0]), int(bits[1])


def test_known_answers() -> None:
    """The vectors for philox2x32-10 that its authors publish with Random123 (`kat_vectors`)."""
    ones = 2**32 - 1
    assert philox_of(0, 0, 0) == (0xFF1DAE59, 0x6CD10DF2)
    assert philox_of(ones, ones, ones) == (0x2C3F628B, 0xAB4FD7AD)
    assert philox_of(0x243F6A88, 0x85A308D3, 0x13198A2E) == (0xDD7CE038, 0xF62A4C12)


@settings(deadline=None)
@given(left=WORD, right=WORD, key=WORD)
def test_equals_the_twin(left: int, right: int, key: int) -> None:
    assert philox_of(left, right, key) == philox_by_hand(left, right, key)


def numbers(pairs: list[tuple[int, int]]) -> list[float]:
    seeds, positions = zip(*((as_int64(seed), position) for seed, position in pairs), strict=True)
    drawn: list[float] = uniform(torch.tensor(seeds), torch.tensor(positions)).tolist()
    return drawn


def test_seed_and_position_decide() -> None:
    """Alone or together, and every bit of a seed counts."""
    pairs = [(seed, position) for seed in range(30) for position in range(30)]
    drawn = numbers(pairs)
    assert drawn == [numbers([pair])[0] for pair in pairs]
    assert len(set(drawn)) == 900
    assert all(0 <= u < 1 for u in drawn)
    assert abs(sum(drawn) / 900 - 0.5) < 0.05
    seeds = [0, *(1 << bit for bit in range(64))]
    assert len(set(numbers([(seed, 5) for seed in seeds]))) == 65


@given(st.integers())
def test_seeds_are_taken_modulo_64_bits(seed: int) -> None:
    assert as_int64(seed) % 2**64 == seed % 2**64
    assert -(2**63) <= as_int64(seed) < 2**63
