"""Guesses that lose time are no longer made: for a text, and for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.engine.drafting.worth import (
    FEWEST_JUDGED,
    FEWEST_ROUNDS,
    FIRST_RATE,
    ROW_COST,
    TRIAL,
    GuessAccount,
    TextRate,
    gain_of,
)


def played(seconds: float, num_right: int, num_guesses: int, num_steps: int) -> GuessAccount:
    """Steps of a second with one text, whose guesses take so long together."""
    account = GuessAccount()
    for _ in range(num_steps):
        account.guessed(seconds, seconds / num_guesses)
        account.step(1 + ROW_COST * num_guesses, 1 + num_guesses)
        account.judge(num_right, num_guesses, 1)
    return account


@given(seconds=st.floats(0.01, 4), num_right=st.integers(0, 4), num_steps=st.integers(40, 60))
def test_off_where_more_is_spent_than_saved(seconds: float, num_right: int, num_steps: int) -> None:
    """The same in plain numbers: a step is a second, and so is what a right guess saves."""
    gain = num_right - seconds - 4 * ROW_COST
    if abs(gain) > 1e-6:
        assert played(seconds, num_right, 4, num_steps).is_off == (gain < 0)


def test_no_verdict_before_enough_was_seen() -> None:
    account = played(0.9, 0, 1, FEWEST_JUDGED - 1)
    assert not account.is_off
    account.judge(0, 1, 1)
    assert account.is_off


def test_a_model_too_slow_for_a_sure_guess_is_given_up_at_once() -> None:
    account = played(1.1, 1, 1, FEWEST_ROUNDS - 1)
    assert not account.is_off
    assert TextRate(1.0).num_wanted(1000, account.cost) == 0
    account.guessed(1.1, 1.1)
    assert account.is_off
    while not account.may_guess(1):
        pass
    assert account.cost == ROW_COST, "it is timed anew"


def test_a_switched_off_model_is_tried_again_ever_less_often() -> None:
    account = played(0.9, 0, 1, FEWEST_JUDGED)
    waits: list[int] = []
    for _ in range(4):
        waits.append(1)
        while not account.may_guess(1):
            waits[-1] += 1
        for _ in range(FEWEST_JUDGED):
            account.guessed(0.9, 0.9)
            account.judge(0, 1, 1)
    assert waits == [256, 512, 1024, 2048]


def test_one_that_became_cheap_is_used_again() -> None:
    account = played(10.0, 4, 4, 20)
    assert account.is_off
    while not account.may_guess(1):
        pass
    for _ in range(100):
        assert account.may_guess(1)
        account.guessed(0.1, 0.02)
        account.step(1.0, 1)
        account.judge(4, 4, 1)


def test_a_saved_step_of_many_texts_is_shared_by_them() -> None:
    """Eight texts in a step of 1.42 s: a right guess saves an eighth of that."""
    account = GuessAccount()
    account.step(1 + 7 * ROW_COST, 8)
    account.judge(1, 1, 8)
    assert abs(account._saved - (1 + 7 * ROW_COST) / 8) < 1e-9


def test_a_long_prompt_is_not_caught_up_with_for_a_short_answer() -> None:
    """At 0.7 and 0.3 of a step a guess, three guesses save a quarter of each step: 1.9 steps for
    2.53 tokens. Seconds are steps, and a token that is caught up with takes a fifth of one."""
    account = GuessAccount()
    account.guessed(0.24, 0.24)
    account.step(1.0, 1)
    assert account.pays(0.7, 10_000, 1), "nothing is known yet"
    account.caught_up(20.0, 100)
    assert gain_of(0.7, account.cost) == pytest.approx(1 - 1.9 / 2.533)
    assert account.pays(0.7, 100, 81)
    assert not account.pays(0.7, 100, 79)
    assert account.pays(0.7, 319, 10_000), "as long as an answer is likely to be"
    assert not account.pays(0.7, 321, 10_000)
    assert not account.pays(0.2, 10, 10_000), "where no guess is worth it"


def test_a_text_is_guessed_as_far_as_it_pays() -> None:
    """0.7^i against what a guess costs: 0.06, 0.3, 0.6, 0.8 of a step."""
    numbers = [TextRate(FIRST_RATE).num_wanted(10, cost) for cost in (0.06, 0.3, 0.6, 0.8)]
    assert numbers == [7, 3, 1, 0]


def test_a_text_that_is_guessed_badly_rests_and_is_tried_again() -> None:
    text = TextRate(FIRST_RATE)
    for _ in range(20):
        text.judge(0, 1)
    tried = [n for n in range(1000) if text.num_wanted(n, ROW_COST)]
    assert tried == [16, 48, 112, 240, 496, 752]
    assert text.num_wanted(1008, ROW_COST) == TRIAL
    for _ in range(4):
        text.judge(4, 4)
    assert text.num_wanted(1010, ROW_COST) > 4
