"""Which models give way to others: those that many ask to those that few do.

Engines that compute at once take turns on the cores, and each gets the same share however many it
answers. So a model that is flooded would slow down every other. Here it comes behind: it computes
in the time that the others leave. A pure rule: it is told how many requests each model has under
way, and the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CROWD = 4  # times as many requests under way as another has: from here on a model gives way
STAYS = 2  # until it has less than so many times as many
LINGER = 1.0  # seconds it stays behind when nobody else computes: the next may come at once


@dataclass(frozen=True, slots=True)
class Crowd:
    """One model's requests under way, and how many its engine answers in one batch."""

    under_way: int
    places: int

    def gives_way_to(self, other: "Crowd", factor: int) -> bool:
        """Nobody gives way to whom nobody asks. Of two flooded ones neither does, unless the
        crowds differ by the factor."""
        if not other.under_way:
            return False
        if self.under_way >= factor * other.under_way:
            return True
        is_far_less = other.under_way >= factor * self.under_way
        return self.under_way > self.places and other.under_way <= other.places and not is_far_less


class Crowds:
    """Remembers who gives way. Tell it again within `LINGER`, as long as somebody does."""

    def __init__(self) -> None:
        self.behind: frozenset[str] = frozenset()
        self._beside: dict[str, float] = {}  # when another was last under way

    def tell(self, crowds: Mapping[str, Crowd], now: float) -> None:
        """Of all models that are loaded; whoever is not named does not give way. `now` is in
        seconds, and never goes back."""
        self.behind = frozenset(name for name in crowds if self._is_behind(name, crowds, now))

    def _is_behind(self, name: str, crowds: Mapping[str, Crowd], now: float) -> bool:
        own, was_behind = crowds[name], name in self.behind
        others = [crowd for other, crowd in crowds.items() if other != name and crowd.under_way]
        if others:
            self._beside[name] = now
            factor = STAYS if was_behind else CROWD
            return any(own.gives_way_to(other, factor) for other in others)
        return was_behind and own.under_way > 0 and now - self._beside[name] < LINGER
