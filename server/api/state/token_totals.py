"""Tokens of all requests so far, for the metrics."""

from thirdeye.server.api.state.usage import Tally


class TokenTotals:
    """Tokens of prompts and answers as their callers are told in `usage`, so far.

    The engine counts otherwise: a prompt once for each of its samples, and of an answer that a stop
    string ended also what it had begun to go on with.
    """

    def __init__(self) -> None:
        self._open: set[Tally] = set()
        self._prompt = self._generated = 0  # of those that ended

    def begin(self, tally: Tally) -> None:
        self._open.add(tally)

    def end(self, tally: Tally) -> None:
        self._open.remove(tally)
        self._prompt += tally.num_answered_prompt_tokens
        self._generated += tally.num_generated_tokens

    @property
    def prompt(self) -> int:
        return self._prompt + sum(tally.num_answered_prompt_tokens for tally in self._open)

    @property
    def generated(self) -> int:
        return self._generated + sum(tally.num_generated_tokens for tally in self._open)
