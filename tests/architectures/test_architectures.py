"""Each architecture gives transformers' logits and tokens, in every form that it is served in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.architectures.cases import VOCAB_SIZE
from tests.architectures.conftest import Written
from tests.architectures.page import PAGE, gguf_names, page
from tests.architectures.running import greedy, load, logits, make_cache, step
from tests.architectures.table import AT_A_PUSH, CASES, IN_EVERY_FORM
from tests.architectures.walk.features import features
from tests.draws import also_at_night, count, is_night
from tests.model.parallel.test_parallel import on_ranks
from thirdeye.model.inspection.probe import LayerTrace, logit_lens, trace_layers
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import Alone, Ranks
from thirdeye.model.taped import TapedSteps
from thirdeye.model.transformer import Transformer
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.checkpoint import open_checkpoint

__all__ = ["on_ranks"]  # a fixture

TOKENS = torch.randint(VOCAB_SIZE, (40,), generator=torch.Generator().manual_seed(2)).tolist()
BEYOND_A_BLOCK = 18  # tokens: a cache's blocks hold 16
NOT_SHARED = [name for name, case in CASES.items() if not case.is_shared]
# After which tokens a step ends: after all; within blocks, and on both sides of a block's end.
ENDS = [[len(TOKENS)], [15, 16, 17, len(TOKENS)]]
if is_night():
    ENDS += [[*range(7, len(TOKENS), 7), len(TOKENS)], [*range(1, len(TOKENS) + 1)]]
in_gguf = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.gguf])
everywhere = pytest.mark.parametrize("name", CASES)
in_every_form = pytest.mark.parametrize("name", IN_EVERY_FORM)


def close(ours: Tensor, theirs: Tensor, limit: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=limit, rtol=limit)


def theirs_of(model: PreTrainedModel, token_ids: list[int] = TOKENS) -> Tensor:
    found: Tensor = model(torch.tensor([token_ids])).logits[0]
    return found


@cache
def expected_of(model: PreTrainedModel) -> Tensor:
    """Computed once for all forms of a model that nobody changes."""
    return theirs_of(model)


@cache
def loaded(path: Path) -> Transformer:
    """For the tests that only read it."""
    return load(path)


def in_steps(model: Transformer, ends: list[int]) -> Tensor:
    """Logits of every token [T, vocab_size]."""
    cache = make_cache(model)
    return torch.cat([step(model, cache, TOKENS[a:b], a) for a, b in pairwise([0, *ends])])


def test_every_architecture_has_cases() -> None:
    served = {name.partition("-")[0] for name in CASES}
    assert served == {name for found in ARCHITECTURES for name in found.model_types}


def test_a_push_tries_all_that_a_model_can_have(written: Written) -> None:
    """A case that is not in every form at a push has nothing that others there lack."""
    found = {name: features(open_checkpoint(written(name)[1]).config) for name in CASES}
    tried = set().union(*(found[name] for name in AT_A_PUSH))
    assert {name: found[name] - tried for name in CASES if found[name] - tried} == {}


def test_the_page_of_models_is_the_table() -> None:
    """`python -m tests.architectures.page` writes it anew."""
    assert PAGE.read_text() == page()


@also_at_night
@everywhere
def test_logits(written: Written, name: str) -> None:
    """Through the real loader, whole, and in chunks and single tokens from one block into the next;
    at night token by token from the first to the last."""
    hf, path, _ = written(name)
    theirs = expected_of(hf)
    assert theirs.std() > 0.3  # the logits say something
    model = loaded(path)
    for ends in ENDS:
        close(in_steps(model, ends), theirs)


@in_gguf
def test_logits_of_gguf(written: Written, name: str) -> None:
    """llama.cpp's form of it: other keys and names, other orders of rows, the same model."""
    hf, directory, file = written(name)
    assert file is not None
    ours, theirs = open_checkpoint(directory), open_checkpoint(file)
    [row] = [row for row in ARCHITECTURES if ours.architecture in row.model_types]
    assert theirs.architecture in gguf_names(row)  # llama.cpp calls several of them by one name
    found = CASES[name].as_written(theirs.config)
    assert replace(found, architecture=ours.config.architecture) == ours.config
    close(logits(load(file), TOKENS), expected_of(hf))


@also_at_night
@in_every_form
def test_greedy_tokens(written: Written, name: str) -> None:
    """Each token is theirs behind those before it, which are theirs already."""
    hf, path, _ = written(name)
    found = greedy(loaded(path), TOKENS[:9], 12)
    assert len(found) == 12
    assert theirs_of(hf, [*TOKENS[:9], *found])[8:-1].argmax(-1).tolist() == found


@also_at_night
@in_every_form
def test_logits_by_our_kernels(written: Written, name: str, native: Library) -> None:
    hf, path, _ = written(name)
    model = load(path, native=native)
    for ends in ENDS:
        close(in_steps(model, ends), expected_of(hf))


@also_at_night
@in_every_form
def test_steps_from_tape(written: Written, name: str, native: Library) -> None:
    """In 8 bits, bit for bit what the blocks compute without, and recorded."""
    _, path, _ = written(name)
    model = load(path, native=native, quantize="int8")
    taped = single_steps(model)
    assert is_recorded(model)
    model._raw_of = model._make_raw
    assert torch.equal(taped, single_steps(model))


def single_steps(model: Transformer) -> Tensor:
    """Logits [steps, vocab_size] of tokens that come one by one."""
    cache, first = make_cache(model), count(BEYOND_A_BLOCK - 6, 0)
    if first:
        step(model, cache, TOKENS[:first], 0)
    rest = TOKENS[first : count(BEYOND_A_BLOCK, len(TOKENS))]
    return torch.cat([step(model, cache, [token], past) for past, token in enumerate(rest, first)])


def is_recorded(model: Any) -> bool:
    blocks = model._raw_of
    return isinstance(blocks, TapedSteps) and any(blocks._recordings.values())


@also_at_night
@in_every_form
def test_a_look_inside(written: Written, name: str) -> None:
    """Patterns, residual stream and lens are those of transformers' eager attention."""
    hf, path, _ = written(name)
    before = hf.config._attn_implementation
    hf.set_attn_implementation("eager")
    theirs = hf(torch.tensor([TOKENS]), output_attentions=True, output_hidden_states=True)
    hf.set_attn_implementation(before)
    model = loaded(path)
    traces = [t for t in trace_layers(model, torch.tensor(TOKENS), 16) if t is not None]
    attends = [layer in model.config.attending_layers for layer in range(len(traces))]
    assert sum(attends) == len(theirs.attentions)
    patterns = iter(theirs.attentions)
    for layer, trace in enumerate(traces):
        if attends[layer]:
            close(trace.pattern, next(patterns)[0])
        else:
            assert trace.pattern.shape == (0, len(TOKENS), len(TOKENS))
        close(trace.resid_pre, theirs.hidden_states[layer][0])
    close(lens(model, traces), theirs.logits[0].log_softmax(-1))


def lens(model: Any, traces: list[LayerTrace]) -> Tensor:
    return logit_lens(model, traces[-1].resid_post)


@also_at_night
@pytest.mark.parametrize("name", dict.fromkeys(IN_EVERY_FORM + NOT_SHARED))
def test_two_ranks(
    written: Written, name: str, on_ranks: Callable[[int, Callable[[Ranks], Tensor]], list[Tensor]]
) -> None:
    """Each with its share of the same file, threads instead of processes."""
    hf, path, _ = written(name)
    if not CASES[name].is_shared:
        names = r"(this model's 'num_kv_heads'|its states' 'num_(heads|groups)')"
        with pytest.raises(ValueError, match=f"must divide {names}"):
            share(path, Pair())
        return
    results = on_ranks(2, lambda ranks: share(path, ranks))
    assert torch.equal(results[0], results[1])
    close(results[0], expected_of(hf))


@dataclass(frozen=True, slots=True)
class Pair(Alone):
    """The first of two, who never meets the other."""

    size: int = 2


def share(path: Path, ranks: Ranks) -> Tensor:
    with torch.inference_mode():
        return logits(load(path, ranks=ranks), TOKENS, chunk=count(23, 11))
