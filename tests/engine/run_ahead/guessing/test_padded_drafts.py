"""Draft models whose vocabulary is padded otherwise than the served model's, in recorded steps on a
late stream: what they have not learned means nothing to them, what nobody else has is no guess."""

from typing import Any

import pytest
import torch

from tests.engine.execution.request_mixes import answers, make_core
from tests.engine.run_ahead.engines import FixedShapes, Late, transformer_ahead
from tests.engine.run_ahead.launched_drafts import CPU, Untimed
from tests.engine.run_ahead.test_decode_step import CONTEXT, config_of
from tests.engine.run_ahead.test_verified_ahead import DRAFTING
from tests.engine.toy import make_request
from tests.model.tiny import LLAMA, change, random_model
from tests.oracles.tape import capture_on_tape
from thirdeye.server.engine.sampling.sampler import sample
from thirdeye.server.load.drafting import load_draft

SIZE = LLAMA.vocab_size
WISHES: list[dict[str, Any]] = [
    {"logit_bias": {SIZE - 1: 100.0}},  # a token that the smaller one has not learned
    {"logit_bias": {5: 100.0}},
    {"temperature": 0.8, "seed": 3, "logit_bias": {SIZE - 2: 2.0}},
]


@pytest.mark.parametrize("size", [SIZE - 7, SIZE + 7])
def test_answers_are_the_same_and_right_guesses_count(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    stream = Late()
    monkeypatch.setattr(load_draft, "choose_capture", lambda device: capture_on_tape)
    monkeypatch.setattr(load_draft, "choose_stream", lambda device: stream)
    monkeypatch.setattr(load_draft, "DraftAhead", Untimed)
    requests = [
        make_request(str(i), [SIZE - 1, i], max_tokens=16, ignore_eos=True, **wish)
        for i, wish in enumerate(WISHES)
    ]
    served = random_model(LLAMA, FixedShapes())
    expected = answers(make_core(served, max_model_len=CONTEXT, num_blocks=40), requests)
    config = config_of(served, max_num_seqs=3, **DRAFTING)
    checkpoint: Any = None  # whose name nobody asks
    own = random_model(change(LLAMA, vocab_size=size), FixedShapes())
    draft = load_draft.LoadedDraft(checkpoint, own, SIZE, torch.float32, CPU)
    made = draft.make(config, 1 << 20, sample)
    core, launcher = transformer_ahead(
        served, config, capture_on_tape, stream, made.proposer, made.on_device
    )
    assert answers(core, requests) == expected
    assert launcher.num_refused == 0
    assert not core.stats().is_draft_paused
    assert core.stats().spec_decode_num_draft_tokens_total > 20
    assert core.stats().spec_decode_num_accepted_tokens_total > 5
