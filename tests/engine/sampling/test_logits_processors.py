"""Processors against an obvious loop."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.toy import make_request
from thirdeye.server.engine.sampling.logits_processors import is_processed, make_processors
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings

VOCAB = 12
EOS = [0, 3]

tokens = st.lists(st.integers(0, VOCAB - 1), max_size=20)
penalties = st.sampled_from([0.0, -1.5, 0.7])


def obvious(logits: list[float], sequence: Sequence) -> list[float]:
    sampling, out = sequence.request.sampling, list(logits)
    prompt = sequence.request.prompt_token_ids
    output = sequence.token_ids[len(prompt) :]
    window = sampling.penalty_window if sampling.penalty_window > 0 else 10**9
    seen, said = (prompt + output)[-window:], output[-window:]
    for token_id in range(VOCAB):
        if len(output) < sampling.min_tokens and token_id in EOS + sampling.stop_token_ids:
            out[token_id] = -float("inf")
        out[token_id] += sampling.logit_bias.get(token_id, 0.0)
        if token_id in seen:
            if out[token_id] > 0:
                out[token_id] /= sampling.repetition_penalty
            else:
                out[token_id] *= sampling.repetition_penalty
        out[token_id] -= said.count(token_id) * sampling.frequency_penalty
        out[token_id] -= (token_id in said) * sampling.presence_penalty
    return out


@settings(deadline=None)
@given(
    logits=st.lists(st.floats(-5, 5, width=32), min_size=VOCAB, max_size=VOCAB),
    prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20),
    output=tokens,
    min_tokens=st.integers(0, 20),
    stop_token_ids=tokens,
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.sampled_from([-100.0, 1.5, 100.0])),
    frequency_penalty=penalties,
    presence_penalty=penalties,
    repetition_penalty=st.sampled_from([1.0, 0.5, 1.3]),
    penalty_window=st.just(-1) | st.integers(1, 45),
)
def test_as_an_obvious_loop(
    logits: list[float], prompt: list[int], output: list[int], **sampling: Any
) -> None:
    request = make_request(prompt=prompt, **sampling)
    sequence = Sequence(request=request, max_tokens=99, arrival=0, timings=SequenceTimings(0.0))
    sequence.token_ids += output
    row = torch.tensor(logits)
    if is_processed(sequence):
        for processor in make_processors(EOS):
            processor(row, sequence)
    torch.testing.assert_close(row, torch.tensor(obvious(logits, sequence)))
