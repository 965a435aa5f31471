"""Penalties on the device against those on the host, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.engine.toy import make_request
from thirdeye.server.engine.run_ahead.device_penalties import TokenCounts, make_counts_update
from thirdeye.server.engine.sampling.logits_processors import apply_penalties
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings

VOCAB = 30
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=20)
PENALTY = st.sampled_from([0.0, 0.1, 0.3, -0.7, 2.0])


@draws(25, 100)
@given(
    texts=st.lists(st.tuples(TOKENS, TOKENS, TOKENS), min_size=1, max_size=4),
    frequency=PENALTY,
    presence=PENALTY,
    repetition=st.sampled_from([1.0, 1.1, 0.8, 2.0]),
    seed=st.integers(0, 99),
)
def test_penalties_are_those_of_the_host(
    texts: list[tuple[list[int], list[int], list[int]]],
    frequency: float,
    presence: float,
    repetition: float,
    seed: int,
) -> None:
    """Of (prompt, what was said before the device was told, what it counted itself), in slots that
    others have used before; tokens that are masked stay masked."""
    counts = TokenCounts(len(texts), VOCAB, torch.device("cpu"))
    slots = torch.arange(len(texts))
    counts.add(slots, slots + 1)  # the last owner's
    told = [(slot, [1, *prompt], said) for slot, (prompt, said, _) in enumerate(texts)]
    counts.apply(make_counts_update(told, VOCAB))
    for slot, (_, _, later) in enumerate(texts):
        for token_id in later:
            counts.add(torch.tensor([slot]), torch.tensor([token_id]))
    logits = torch.randn(len(texts), VOCAB, generator=torch.Generator().manual_seed(seed)) * 3
    logits[:, 3] = -torch.inf
    columns = [torch.full((len(texts),), x) for x in (repetition, frequency, presence)]
    penalized = counts.penalize(logits, slots, *columns)
    for slot, (prompt, said, later) in enumerate(texts):
        request = make_request(
            prompt=[1, *prompt],
            frequency_penalty=frequency,
            presence_penalty=presence,
            repetition_penalty=repetition,
        )
        sequence = Sequence(request, max_tokens=99, arrival=0, timings=SequenceTimings(0.0))
        sequence.token_ids += [*said, *later]
        apply_penalties(logits[slot], sequence)
    assert torch.equal(penalized, logits)


def test_nothing_to_tell() -> None:
    assert make_counts_update([], VOCAB) is None


def test_texts_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """From memory that is not, a copy to a GPU waits until the step that runs there is done."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1000)
    update = make_counts_update([(2, [5], [7])], VOCAB, pin=True)
    assert update is not None
    assert min(int(t.min()) for t in (update.slots, update.places, update.words)) >= 1000
