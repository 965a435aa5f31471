"""Guesses of a draft model where steps are launched ahead: made on the device, behind tokens that
nobody has read.

    the target's step n       in flight, moves the target's slots
    the draft model's         begin where these are then, and go on from their own tokens
    the target's step n + 1   verifies these tokens

So for a text the draft model needs the keys and values of all tokens but the newest, whatever that
is and wherever it stands: it is even with the text. It stays so as long as each step of the text
has guesses of it. For k of them it takes k + 1 steps, the last of which computes the last guess;
what was wrong is written over.

With a text that is not even (a new one, one that was guessed otherwise, or was beside a prompt's
chunk) it catches up when all tokens are known: the step in flight is then read first.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from thirdeye.server.engine.drafting.draft_model import DraftModel, Shadow, limits_of
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.speculation.proposer import DraftAsk, DraftRoom
from thirdeye.server.engine.scheduling.step_plan import UNREAD, PlanRow


@dataclass(slots=True, eq=False)
class ShadowAhead(Shadow):
    """Of a text whose newest token the device alone may know."""

    num_owed: int = 0  # guesses that it was to have, and had to wait for

    @property
    def end(self) -> int:
        """The newest token is computed with the guesses."""
        return self.num_known - 1


def is_even(shadow: Shadow, ask: DraftAsk) -> bool:
    """Whether all of a text is computed but its newest token; with a step in flight, when that is
    computed."""
    text = ask.sequence
    is_computed = shadow.sequence.num_computed_tokens == text.num_computed_tokens
    return is_computed and (text.is_guessed_ahead or not ask.num_ahead)


class DraftAhead(DraftModel):
    """A `Proposer` whose guesses are made when its step is launched. Its runner catches up."""

    _make_shadow = ShadowAhead
    _wants_newest = False

    @property
    def reads_newest(self) -> bool:
        """Unless it rests: then nobody waits for it."""
        return self._wants_newest and not (self._has_failed or self._account.is_off)

    def propose(self, asks: Seq[DraftAsk], room: DraftRoom) -> list[list[int]]:
        self._wants_newest = False
        return super().propose(asks, room)

    def _guess(self, asks: Seq[DraftAsk], num_cheap: int) -> list[list[int]]:
        cost = self._account.cost
        shadows = [self._shadow_of(ask.sequence) for ask in asks]
        for shadow, limit in zip(shadows, limits_of(asks, num_cheap), strict=True):
            wanted, shadow.num_owed = shadow.num_owed, 0
            if limit and not wanted:
                wanted = shadow.rate.num_wanted(shadow.num_known, cost)
            shadow.num_wanted = min(limit, wanted)
        most = max(shadow.num_wanted for shadow in shadows)
        ready = [self._is_ready(ask, most) for ask in asks]
        self._compute_behind([s for s, ok in zip(shadows, ready, strict=True) if ok])
        return [self._unread(ask) if ok else [] for ask, ok in zip(asks, ready, strict=True)]

    def _is_ready(self, ask: DraftAsk, most: int) -> bool:
        """Whether a text wants guesses, and there is room for `most`: each text takes part in as
        many steps."""
        shadow = self._shadow_of(ask.sequence)
        if not shadow.num_wanted:
            return False
        num_tokens = shadow.num_known + ask.num_ahead + most
        if not self._has_room(shadow, ask.sequence, num_tokens):
            return False
        if ask.num_ahead and not is_even(shadow, ask):
            self._wait_for(shadow)
            return False
        return True

    def _compute_behind(self, shadows: Seq[Shadow]) -> None:
        """Catch up, by a chunk, with texts that are known."""
        started = self._clock()
        if rows := self._catch_up(shadows):
            self._run(rows)
            seconds = self._clock() - started
            self._account.caught_up(seconds, sum(row.num_scheduled_tokens for _, row in rows))
            self._account.guessed(seconds, 0.0)

    def _unread(self, ask: DraftAsk) -> list[int]:
        """As many as are wanted, if its text is computed."""
        shadow = self._shadow_of(ask.sequence)
        if is_even(shadow, ask):
            return [UNREAD] * shadow.num_wanted
        self._wait_for(shadow)  # to go on with the next chunk
        return []

    def _wait_for(self, shadow: ShadowAhead) -> None:
        self._wants_newest = True
        shadow.num_owed = shadow.num_wanted

    def _shadow_of(self, sequence: Sequence) -> ShadowAhead:
        shadow = super()._shadow_of(sequence)
        assert isinstance(shadow, ShadowAhead)
        return shadow

    # --- what `DraftRounds` asks and tells, which launches its steps ---

    def own_rows(self, rows: Seq[PlanRow]) -> list[PlanRow]:
        """Those of the draft model for the rows of a step that are guessed, in order, as they are
        in its first step: in the last one they are further by as many as are guessed."""
        guessed = [row for row in rows if row.is_guessed_ahead]
        most = max(len(row.draft_token_ids) for row in guessed)
        own: list[PlanRow] = []
        for row in guessed:
            shadow: ShadowAhead = row.sequence.drafters[self]
            at, more = row.start, row.num_uncertain + most
            own.append(
                PlanRow(shadow.sequence, at, at + 1, at, at, is_sampled=True, num_uncertain=more)
            )
        return own

    def timed(self, started: float, num_steps: int, *, is_read: bool) -> None:
        """It has begun to guess then; what nobody waited for takes as long as what was read."""
        seconds = self._clock() - started
        if is_read:
            self._account.guessed(seconds, seconds / num_steps)
        else:
            self._account.guessed_unseen(num_steps)

    @property
    def now(self) -> float:
        return self._clock()

    def judge(self, row: PlanRow, num_right: int) -> None:
        """The text has become longer by what the device had guessed for it."""
        if not row.is_guessed_ahead:
            return
        shadow: ShadowAhead | None = row.sequence.drafters.get(self)
        if shadow is not None:
            shadow.follow(row.sequence.token_ids)
            own = shadow.sequence
            start, end = own.num_computed_tokens, row.sequence.num_computed_tokens
            own.num_computed_tokens = end
            self._publish(shadow, PlanRow(own, start, end, start, start, is_sampled=False))
        super().judge(row, num_right)
