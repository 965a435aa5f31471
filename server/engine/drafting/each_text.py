"""Guesses for each sequence by itself, from its text alone: what prompt lookup needs."""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Protocol

from thirdeye.server.engine.scheduling.speculation.proposer import DraftAsk, DraftRoom, FreeGuesses


class Drafter(Protocol):
    """Guesses for one sequence."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        """Tokens that may follow `token_ids`: up to `limit` if they are very likely, else `few`.

        The first `few` cost hardly anything. Called with a text that only grows.
        """


class EachText(FreeGuesses):
    """A `Proposer` with a drafter for each sequence, made when it is first asked for. The first
    sequences of a step take what room they can use."""

    def __init__(self, make_drafter: Callable[[], Drafter]) -> None:
        self._make_drafter = make_drafter

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        proposed: list[list[int]] = []
        num_taken = 0
        for ask in asks:
            sequence, limit = ask.sequence, min(ask.limit, room.num_all - num_taken)
            if limit <= 0:
                proposed.append([])
                continue
            few = max(0, min(limit, room.num_cheap - num_taken))
            drafter: Drafter | None = sequence.drafters.get(self)
            if drafter is None:
                drafter = sequence.drafters[self] = self._make_drafter()
            prompt_end = sequence.num_prompt_tokens
            # What is in flight has to be guessed as well, so the further ahead the fewer are left.
            ahead = ask.num_ahead
            guesses = drafter.propose(sequence.token_ids, prompt_end, few + ahead, limit + ahead)
            guesses = guesses[ahead:]
            num_taken += len(guesses)
            proposed.append(guesses)
        return proposed
