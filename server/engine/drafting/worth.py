"""Whether guesses of a model are worth their time: measured, for each text and for all together.

A guess costs a row of the step that checks it, and the time of the model that made it; one that is
right saves a step of its sequence. All is counted in the target's own seconds:

    a step of n tokens takes    base * (1 + ROW_COST * (n - 1))
    a right guess saves         such a step with a token for each sequence, shared by them

A text is guessed as far as each further guess is more likely to be right than dear, and rests where
not even the first one is. If over the last guesses of all texts more was spent than saved, nothing
is guessed at all, until a pause has passed; each further pause is longer.
"""

from dataclasses import dataclass, field

from thirdeye.server.engine.drafting.prompt_lookup import ROW_COST, WEIGHT, num_worth_it

FIRST_RATE = 0.7  # of guesses that are right, until some of all texts were judged
TRIAL = 4  # guesses of a text after it has rested
FEWEST_JUDGED = 32  # guesses before it is decided about all
FEWEST_ROUNDS = 8  # that were timed before a model is found too slow for any guess
FADING = 1023 / 1024  # of what was measured, each time that it forbids to measure it again
LIKELY_LENGTH = 256  # tokens that an answer is likely to have, whatever it is allowed
MOST_GUESSES = 15  # of one step
REMEMBERED = 256  # guesses of the account; then all of it counts half
SLOW = 1 / 16  # of the newest in an average of the engine


@dataclass(slots=True)
class Pause:
    """Lets every so many-th through: twice as many each time, up to a most."""

    first: int
    most: int
    length: int = 0
    left: int = 0

    def is_over(self, num_passed: int = 1) -> bool:
        self.left -= num_passed
        return self.left <= 0

    def begin(self) -> None:
        self.length = min(2 * self.length or self.first, self.most)
        self.left = self.length

    def end(self) -> None:
        self.length = self.left = 0


@dataclass(slots=True)
class TextRate:
    """How good the guesses for one text are."""

    rate: float
    pause: Pause = field(default_factory=lambda: Pause(16, 256))
    num_tokens: int = 0  # of the text, when it was last asked for

    def judge(self, num_right: int, num_guesses: int) -> None:
        for is_right in [True] * num_right + [False] * (num_right < num_guesses):
            self.rate += WEIGHT * (is_right - self.rate)

    def num_wanted(self, num_tokens: int, cost: float) -> int:
        """Guesses behind a text of so many tokens, if one costs this share of a step."""
        num_new, self.num_tokens = num_tokens - self.num_tokens, num_tokens
        num = num_worth_it(self.rate, cost)
        if cost >= 1:
            return 0
        if num:
            self.pause.end()
            return num
        if not self.pause.length:
            self.pause.begin()
            return 0
        if not self.pause.is_over(num_new):
            return 0
        self.pause.begin()
        return TRIAL


def gain_of(rate: float, cost: float) -> float:
    """What each token of an answer saves, in steps: with k guesses a step gives 1 + rate + ... +
    rate^k of them, and takes 1 + k * cost."""
    num = min(num_worth_it(rate, cost), MOST_GUESSES)
    return 1 - (1 + num * cost) / sum(rate**i for i in range(num + 1))


class GuessAccount:
    """What guessing costs and saves, of all texts together."""

    def __init__(self) -> None:
        self._base = 0.0  # seconds of a step of one token; 0: none was measured
        self._round = 0.0  # seconds in which each of some texts gets one guess
        self._num_rounds = 0  # that were timed
        self._each = 0.0  # seconds for a token that is caught up with
        self._rate = FIRST_RATE
        self._pause = Pause(256, 16384)
        self._spent = self._saved = 0.0
        self._num_judged = 0
        self._is_off = False

    @property
    def is_off(self) -> bool:
        return self._is_off

    def caught_up(self, seconds: float, num_tokens: int) -> None:
        """So many tokens of texts were computed, for the sake of guesses to come."""
        each = seconds / num_tokens
        self._each += (SLOW if self._each else 1.0) * (each - self._each)

    def pays(self, rate: float, num_behind: int, num_left: int) -> bool:
        """Whether guesses for what is left of an answer are worth catching up with its text."""
        gain = gain_of(rate, self.cost) * min(num_left, LIKELY_LENGTH) * self._base
        if num_behind * self._each <= gain:
            return True
        self._each *= FADING  # else one slow moment would decide for ever
        return False

    @property
    def cost(self) -> float:
        """Of a guess, in steps."""
        return ROW_COST + (self._round / self._base if self._base else 0.0)

    def new_text(self) -> TextRate:
        return TextRate(self._rate)

    def may_guess(self, num_texts: int) -> bool:
        """To be asked once a step, with the number of texts that would be guessed."""
        if self._is_off and self._pause.is_over(num_texts):
            self._is_off = False
            self._spent = self._saved = self._round = 0.0
            self._num_judged = self._num_rounds = 0
        return not self._is_off

    def step(self, seconds: float, num_tokens: int) -> None:
        """The target has computed a step that held no prompt."""
        base = seconds / (1 + ROW_COST * (num_tokens - 1))
        self._base += (SLOW if self._base else 1.0) * (base - self._base)

    def guessed(self, seconds: float, round_seconds: float) -> None:
        """So long it took to guess for a step, catching up with the texts too, and so long a round
        of it on average; 0: there was none."""
        self._spent += seconds
        if round_seconds:
            self._round += (SLOW if self._round else 1.0) * (round_seconds - self._round)
            self._num_rounds += 1
            if self._num_rounds >= FEWEST_ROUNDS and self.cost >= 1:
                self._turn_off()  # not even a sure guess is worth it

    def guessed_unseen(self, num_rounds: int) -> None:
        """So many rounds on the device, for which nobody waits: they count as others took."""
        self._spent += num_rounds * self._round

    def judge(self, num_right: int, num_guesses: int, num_texts: int) -> None:
        """Of one text's guesses, in a step of so many."""
        self._spent += num_guesses * ROW_COST * self._base
        self._saved += num_right * self._base * (1 + ROW_COST * (num_texts - 1)) / num_texts
        num_told = num_right + (num_right < num_guesses)
        self._num_judged += num_told
        for is_right in [True] * num_right + [False] * (num_told - num_right):
            self._rate += SLOW * (is_right - self._rate)
        if self._num_judged >= FEWEST_JUDGED:
            self._decide()

    def _turn_off(self) -> None:
        if not self._is_off:
            self._is_off = True
            self._pause.begin()

    def _decide(self) -> None:
        if self._spent > self._saved:
            self._turn_off()
        else:
            self._pause.end()
        if self._num_judged >= REMEMBERED:
            self._num_judged //= 2
            self._spent, self._saved = self._spent / 2, self._saved / 2
