"""What is sent: conversations of made-up text, of fixed or log-normal length, with shared prefixes.

The text is common English words, each of which is one token in nearly every vocabulary, so that a
length in words is close to one in tokens; what is reported is the server's own count. Each
conversation begins with its number, so that no two share a prefix unless they are meant to. The
same seed gives the same text.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

# One token each, with a space before it, in the vocabularies of GPT-2, GPT-4, Llama and SmolLM.
_TALE = """
the river runs past a small town where every morning people sell bread fruit and old books while
their children play near the water under green trees until night falls on quiet streets then a train
comes from far away with letters coffee music and new friends who tell long stories about mountains
winter ships stars gold horses summer rain and the road that led home
"""
WORDS = tuple(_TALE.split())

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question: what is said, the longest answer, and how long its writer thought before it."""

    text: str
    max_tokens: int
    think_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns after one another, each with all that was said before. `at`: seconds from the start."""

    turns: tuple[Turn, ...]
    history: tuple[Message, ...] = ()
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens: `median` times a log-normal factor; a sigma of 0 is a fixed length.

    Real prompts and answers are log-normal with a sigma near 1. At most `longest`.
    """

    median: int
    sigma: float = 0.0
    longest: int = 1_000_000

    def __post_init__(self) -> None:
        if self.median < 1 or self.sigma < 0 or self.longest < 1:
            raise ValueError("A length needs a median of at least 1 and a sigma of at least 0.")

    def draw(self, draws: random.Random) -> int:
        factor = math.exp(self.sigma * draws.gauss(0, 1)) if self.sigma else 1.0
        return max(1, min(self.longest, round(self.median * factor)))


@dataclass(frozen=True, slots=True)
class Mix:
    """How conversations look. A share of them begins with one of a few long, common prefixes."""

    prompt: Length = field(default_factory=lambda: Length(100))
    answer: Length = field(default_factory=lambda: Length(128))
    prefix_tokens: int = 0
    num_prefixes: int = 1
    prefix_share: float = 1.0
    num_turns: int = 1
    think_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.num_prefixes < 1 or self.num_turns < 1:
            raise ValueError("'num_prefixes' and 'turns' must be at least 1.")
        if not 0 <= self.prefix_share <= 1:
            raise ValueError(f"'prefix_share' must be between 0 and 1, got {self.prefix_share}.")

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """Without end. Conversation `i` is the same whatever else is drawn."""
        prefixes = [
            words(self.prefix_tokens, seed, f"prefix {i}") for i in range(self.num_prefixes)
        ]
        number = 0
        while True:
            yield self._conversation(seed, number, prefixes)
            number += 1

    def _conversation(self, seed: int, number: int, prefixes: list[str]) -> Conversation:
        draws = random.Random(f"{seed} {number}")
        prefix = ""
        if self.prefix_tokens and draws.random() < self.prefix_share:
            prefix = f"{draws.choice(prefixes)} "
        turns = []
        for turn in range(self.num_turns):
            text = words(
                self.prompt.draw(draws), seed, f"{number}" if not turn else f"{number} {turn}"
            )
            think = self.think_seconds if turn else 0.0
            turns.append(Turn(prefix + text, self.answer.draw(draws), think))
            prefix = ""
        return Conversation(tuple(turns))


def words(count: int, seed: int, name: str) -> str:
    """`count` words that begin with the name: other names are other texts from the start."""
    draws = random.Random(f"{seed} {name}")
    first = name.split()
    return " ".join([*first, *draws.choices(WORDS, k=max(0, count - len(first)))])
