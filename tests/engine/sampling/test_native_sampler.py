"""The sampler in C against its twin in torch, and against itself in any company.

Sums are rounded differently, so a draw at the border of two tokens may fall to either: a token is
right if the twin gives it for numbers that differ from the request's by less than rounding does.
"""

import math
from collections.abc import Sequence as Seq

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.engine.execution.test_model_runner import answer, mixed_requests
from tests.engine.grammar.test_grammar import all_requests
from tests.engine.grammar.toy_grammars import grammar_core
from tests.engine.toy import run_all, toy_config
from thirdeye.model.native.library import Library
from thirdeye.server.engine.grammar.bitmask import RowMasks, empty_masks
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.engine.sampling.native_sampler import NativeSampler
from thirdeye.server.engine.sampling.philox import uniform
from thirdeye.server.engine.sampling.sampler import (
    GREEDY,
    NO_TOKEN,
    DrawParams,
    Ranking,
    draw,
    make_draw_columns,
    make_draw_params,
    sample,
)

SLIGHTLY = 1e-5
NUM_ROWS = 40


@pytest.fixture(scope="module")
def sampler(native: Library) -> NativeSampler:
    return NativeSampler(native)


draw_params = st.builds(
    lambda **fields: make_draw_params(SamplingParams(max_tokens=1, **fields)),
    temperature=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    top_k=st.sampled_from([0, 1, 2, 40, 300, 10**6]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    seed=st.integers(-(2**63), 2**64),
)


def with_mask(rows: Seq[int], allowed: Seq[set[int]], vocab_size: int) -> RowMasks:
    words = empty_masks(len(rows), vocab_size)
    words.fill(0)
    for row, tokens in zip(words, allowed, strict=True):
        for token in tokens:
            row.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)
    return RowMasks(list(rows), words)


def near(logits: Tensor, draw_param: DrawParams, position: int) -> set[int]:
    """The twin's tokens for logits [vocab_size], for noise and top-p of about this size."""
    u = uniform(torch.tensor([draw_param.seed]), torch.tensor([position]))
    found: set[int] = set()
    for du in (-SLIGHTLY, 0.0, SLIGHTLY):
        for factor in (1 - SLIGHTLY, 1.0, 1 + SLIGHTLY):
            top_p = min(draw_param.top_p * factor, 1.0) if draw_param.top_p < 1 else 1.0
            columns = make_draw_columns([draw_param._replace(top_p=top_p)], logits.device)
            whole = Ranking(len(logits), is_enough=True)
            noise = (u + du).clamp(0, 1 - 2**-24)
            found.add(int(draw(logits[None], columns, noise, whole)))
    return found


@draws(25, 150)
@given(data=st.data())
def test_it_agrees_with_its_twin(sampler: NativeSampler, data: st.DataObject) -> None:
    """Any parameters, with and without masks, sizes that fill registers and blocks and that do
    not, logits with ties and holes."""
    vocab_size = data.draw(st.sampled_from([1, 2, 16, 33, 511, 513, 1300]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    spread = data.draw(st.sampled_from([0.01, 1.0, 5.0]))
    logits = spread * torch.randn(4, vocab_size, generator=generator)
    if data.draw(st.booleans()):
        logits = (2 * logits).round() / 2  # many equal ones
    if data.draw(st.booleans()):
        logits[:, 1::3] = -math.inf
    rows = data.draw(st.lists(draw_params, min_size=4, max_size=4))
    positions = data.draw(st.lists(st.integers(0, 2**20), min_size=4, max_size=4))
    masked = sorted(data.draw(st.sets(st.integers(0, 3))))
    share = data.draw(st.sampled_from([0.01, 0.5, 1.0]))
    allowed = [
        set((torch.rand(vocab_size, generator=generator) < share).nonzero()[:, 0].tolist())
        for _ in masked
    ]
    masks = with_mask(masked, allowed, vocab_size)
    found = sampler(logits, rows, positions, masks).tolist()
    for row, tokens in zip(masked, allowed, strict=True):
        logits[row, [i for i in range(vocab_size) if i not in tokens]] = -math.inf
    for token_id, own, draw_param, position in zip(found, logits, rows, positions, strict=True):
        if own.max() == -math.inf:
            assert token_id == NO_TOKEN
        elif draw_param.temperature == 0:
            assert token_id == int(own.argmax())
        else:
            assert token_id in near(own, draw_param, position)
            assert own[token_id] > -math.inf


@draws(10, 30)
@given(data=st.data())
def test_the_two_differ_by_rounding_alone(sampler: NativeSampler, data: st.DataObject) -> None:
    """Whole batches through both: nearly every token is the same one."""
    rows = data.draw(st.lists(draw_params, min_size=64, max_size=64))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    logits = 3 * torch.randn(64, 700, generator=generator)
    positions = list(range(64))
    found, expected = sampler(logits, rows, positions), sample(logits, rows, positions)
    assert (found == expected).sum() >= 63


@pytest.mark.parametrize("vocab_size", [1000, 49_152])
def test_threads_and_company_change_nothing(sampler: NativeSampler, vocab_size: int) -> None:
    """Bit by bit: rows by one thread or shared by several, in any order, or alone; so many that
    threads would meet in memory that is not their own."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(NUM_ROWS, vocab_size, generator=generator)
    kinds: list[dict[str, float]] = [{}, {"top_p": 0.9}, {"top_k": 50}, {"temperature": 0}]
    rows = [
        make_draw_params(SamplingParams(max_tokens=1, seed=i, **kinds[i % 4]))  # type: ignore[arg-type]  # test fields
        for i in range(NUM_ROWS)
    ]
    masks = with_mask(
        [1, 4, 5], [set(range(0, vocab_size, step)) for step in (1, 2, 7)], vocab_size
    )
    answers = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append(sampler(logits, rows, range(NUM_ROWS), masks).tolist())
    assert answers[0] == answers[1] == answers[2]
    for i in range(NUM_ROWS):
        alone = sampler(logits[i : i + 1], [rows[i]], [i], masks.of([i]))
        assert alone.item() == answers[0][i]


def test_masks_are_read_where_they_lie(sampler: NativeSampler) -> None:
    """The logits stay as they were: logprobs are of them."""
    logits = torch.arange(100.0).repeat(3, 1)
    before = logits.clone()
    masks = with_mask([0, 2], [{3, 64, 70}, {99}], 100)
    drawn = make_draw_params(SamplingParams(max_tokens=1, seed=0))
    assert sampler(logits, [GREEDY, GREEDY, drawn], [0] * 3, masks).tolist() == [70, 99, 99]
    assert torch.equal(logits, before)


def test_no_rows(sampler: NativeSampler) -> None:
    """A step that computes the middle of a prompt has no logits."""
    assert sampler(torch.empty(0, 100), [], []).tolist() == []


def test_an_engine_says_the_same_with_either(sampler: NativeSampler) -> None:
    """All that a request can ask for, with drafts of every kind, in a batch: grammars together with
    biases, penalties and `min_tokens` among them. The toy's probabilities tie nowhere."""
    requests = [*mixed_requests(7), *all_requests()]
    for i, request in enumerate(all_requests()):
        fields = {"logit_bias": {3: 2.0}} if i % 2 else {"min_tokens": 3, "presence_penalty": 0.5}
        sampling = msgspec.structs.replace(request.sampling, temperature=i % 3 / 2, **fields)
        asking = msgspec.structs.replace(request, request_id=f"more {i}", sampling=sampling)
        requests.append(asking)
    drafting = toy_config(num_draft_tokens=4, max_tokens_with_drafts=64)
    said = [
        {name: answer(outputs) for name, outputs in run_all(core, requests).items()}
        for core in (grammar_core(), grammar_core(drafting), grammar_core(drafting, sampler))
    ]
    assert said[0] == said[1] == said[2]
    assert len(said[0]) == len(requests)
