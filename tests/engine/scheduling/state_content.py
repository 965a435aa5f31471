"""The state cache's slow, obviously right twin: it remembers of which tokens each row is the state.

A state is a function of its whole prefix, in order, and of whose it is. So a span of a step may go
on from a row only if that holds the state of exactly the tokens before the span, and what it leaves
behind is the state of those and its own. Drafts are tokens like any others: what was computed with
a wrong one must not be gone on from.
"""

from thirdeye.server.engine.scheduling.step_plan import ZEROS, PlanRow, StepPlan

State = tuple[str, tuple[int, ...]]  # the salt, and all tokens so far


class StateContent:
    """Call `compute` for each step that ran, `poison` for each that failed half way."""

    def __init__(self) -> None:
        self._rows: dict[int, State | None] = {}

    def compute(self, plan: StepPlan) -> None:
        """Check what each span goes on from, whichever row of the plan is computed first."""
        owner: dict[int, PlanRow] = {}  # of what is written in this step
        for row in plan.rows:
            for span in row.state_spans:
                other = owner.setdefault(span.target, row)
                assert other is row, f"two sequences write state {span.target}"
        for row in plan.rows:
            start = row.start
            for span in row.state_spans:
                assert start < span.end <= row.end, "spans do not follow each other"
                assert owner.get(span.source, row) is row, f"state {span.source} is written over"
                found = self._rows.get(span.source) if span.source != ZEROS else _state(row, 0)
                assert found == _state(row, start), f"wrong state {span.source} at {start}"
                self._rows[span.target] = _state(row, span.end)
                start = span.end
            assert start == row.end, "tokens without a state"

    def poison(self, plan: StepPlan) -> None:
        for row in plan.rows:
            for span in row.state_spans:
                self._rows[span.target] = None


def _state(row: PlanRow, end: int) -> State:
    token_ids = [*row.sequence.token_ids[: row.real_end], *row.draft_token_ids]
    return row.sequence.request.cache_salt, tuple(token_ids[:end])
