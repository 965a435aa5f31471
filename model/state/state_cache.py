"""What layers without keys and values keep: a state of fixed size, of each sequence and snapshot.

A row is the state of one sequence at one position, over all such layers. Who owns which row, and
what of, is the engine's business; here a row is a number, and a step says from which rows into
which it computes (`StateSpans`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.state.zeros import zeros

ZEROS = -1  # the source of a span that begins with its sequence


class StateCache:
    """Each array of the config's spec as [num_state_layers, num_states, *its shape], float32."""

    def __init__(self, config: ModelConfig, num_states: int, device: torch.device) -> None:
        layers, spec = len(config.state_layers), config.state
        arrays = {} if spec is None else spec.arrays
        self._arrays = {
            name: zeros((layers, num_states, *shape), torch.float32, device)
            for name, shape in arrays.items()
        }

    def layer(self, name: str, index: int) -> Tensor:
        """One array of one layer: [num_states, *its shape]."""
        return self._arrays[name][index]


@dataclass(frozen=True, slots=True)
class StateSpans:
    """Consecutive tokens of a step, that go on from a state and leave one: each row of `spans` is
    (first token, how many, source or `ZEROS`, target). Those of a sequence come in order, the
    target of one the source of the next; no other sequence's has either of its rows."""

    spans: Tensor  # [P, 4] int32
    # How many of them go on from each other, from a sequence's first one on, and 0 at its others:
    # for kernels in which a sequence is one program's.
    lengths: Tensor | None = None  # [P] int32


class StatePlanner:
    """Stands where an attention backend would, for layers that have none."""

    plan_key = "states"

    def __init__(self, *, has_lengths: bool = False) -> None:
        self._has_lengths = has_lengths

    def plan(self, batch: ForwardBatch, kv_cache: object) -> StateSpans:  # noqa: ARG002
        spans = spans_in_order(batch) if batch.state_spans is None else batch.state_spans
        if not self._has_lengths:
            return StateSpans(spans)
        is_one_each = batch.num_singles == len(spans) == len(batch.positions)
        return StateSpans(spans, torch.ones_like(spans[:, 1]) if is_one_each else lengths_of(spans))


def lengths_of(spans: Tensor) -> Tensor:
    """[P, 4] -> [P], `StateSpans.lengths`; nothing waits for a device."""
    source, target = spans[:, 2], spans[:, 3]
    begins = torch.ones_like(source)
    begins[1:] = (source[1:] == ZEROS) | (source[1:] != target[:-1])
    sequence = begins.cumsum(0) - 1  # [P]
    counts = torch.zeros_like(source).index_add_(0, sequence, torch.ones_like(source))
    return begins * counts[sequence]


def spans_in_order(batch: ForwardBatch) -> Tensor:
    """For callers whose batches always have the same sequences, in the same order: the state of
    each is the row of its number."""
    starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
    rows = []
    for row, seq_len in enumerate(seq_lens):
        count = starts[row + 1] - starts[row]
        rows.append((starts[row], count, row if seq_len > count else ZEROS, row))
    return torch.tensor(rows, dtype=torch.int32, device=batch.positions.device).view(-1, 4)
