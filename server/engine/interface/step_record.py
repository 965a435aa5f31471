"""What one step did, for whoever watches: its rows, its queue, its times."""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

RING_STEPS = 512  # records remembered: some ten seconds of a busy engine


class RowKind(StrEnum):
    PREFILL = "prefill"  # tokens of the prompt, or all that a preemption lost
    DECODE = "decode"  # the newest token, whose KV is all that is missing


class StepGauges(NamedTuple):
    """What a step's record tells of the engine as the step begins."""

    num_waiting: int
    num_blocks_used: int
    num_blocks_total: int
    preemptions_total: int
    draft_seconds_total: float


class StepRow(Struct, frozen=True, gc=False):
    """One request's share of a step."""

    request_id: str
    num_tokens: int
    kind: RowKind
    num_cached_tokens: int = 0  # of the prompt, found in the prefix cache: on its first row alone


class StepRecord(Struct, frozen=True, kw_only=True):
    """What one step of the engine did, and how long its parts took. Holds no token."""

    step: int  # 0, 1, 2, ... since the engine started, without a gap
    started_at: float  # unix seconds
    rows: list[StepRow]
    num_waiting: int
    waiting: list[str] = []  # those not computed yet, by request id; the first few
    preempted: list[str] = []  # those thrown out, to be computed again
    finished: list[str] = []  # those of its rows whose last output it gave
    tenants: dict[str, str] = {}  # of those named here, by request id; "" is left out
    num_hidden_rows: int = 0  # computed for tenants that the reader of the record may not see
    inspected: str = ""  # the inspection that it did a piece of; such a step may have no rows
    num_blocks_used: int
    num_blocks_free: int
    num_preemptions: int  # made to schedule this step
    schedule_ms: float
    draft_ms: float = 0.0  # a model that guesses
    forward_ms: float  # building the batch, and the model
    sample_ms: float  # logits to tokens; on a GPU also the wait for the model
    inspect_ms: float = 0.0  # the piece of an inspection
    total_ms: float  # the five, and telling the scheduler about it
