"""Embeddings: equal bit for bit however they are computed, and equal to `transformers`'."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.draws import also_at_night, is_night
from tests.engine.execution.request_mixes import CUTS, make_core
from tests.engine.toy import make_request, run_all
from tests.model.tiny import GPT2, LLAMA, change, random_model
from tests.tiny import tiny_gpt2, tiny_llama
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.execution.model_runner import sum_hidden
from thirdeye.server.engine.interface.pooling import (
    FRACTION_BITS,
    MAX_HIDDEN,
    add_sums,
    unit_vector,
)
from thirdeye.server.engine.interface.types import FinishReason, Request, SamplingParams
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

CONTEXT = 160
STARVED = 12  # KV blocks: two requests fit, and answers that grow push the third out
MODELS = {
    "llama": change(LLAMA, max_position_embeddings=CONTEXT),
    "gpt2": change(GPT2, max_position_embeddings=CONTEXT),
}


def embedding(name: str, token_ids: list[int]) -> Request:
    return Request(
        request_id=name,
        prompt_token_ids=token_ids,
        sampling=SamplingParams(max_tokens=0),
        is_embedding=True,
    )


def requests() -> list[Request]:
    """Two of them share a long beginning, one has a single token, one fills the context."""
    shared = list(range(1, 40))
    return [
        embedding("one", [5]),
        embedding("first", [*shared, 41]),
        embedding("second", [*shared, 42, 43]),
        embedding("long", [(7 * i) % 97 for i in range(CONTEXT)]),
    ]


def vectors(model: Transformer, wanted: list[Request], **sizes: Any) -> dict[str, list[float]]:
    core = make_core(model, **sizes)
    found: dict[str, list[float]] = {}
    for name, outputs in run_all(core, wanted).items():
        last = outputs[-1]
        assert last.finish_reason is FinishReason.LENGTH
        assert not any(output.token_ids for output in outputs)
        assert last.num_cached_tokens == 0, "a prefix hit has no hidden states"
        found[name] = last.embedding or []
    return found


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Transformer:
    torch.set_num_threads(1)
    return random_model(MODELS[request.param])


@pytest.fixture(scope="module")
def alone(model: Transformer) -> dict[str, list[float]]:
    """Of `requests()`, each in an engine of its own."""
    return {name: vector for one in requests() for name, vector in vectors(model, [one]).items()}


@also_at_night
@pytest.mark.parametrize("cut", CUTS)
def test_an_embedding_is_the_same_in_any_mix_and_any_chunks(
    model: Transformer, alone: dict[str, list[float]], cut: str
) -> None:
    """Float sums would differ in their last bits from chunking to chunking. At a push every other
    cut is in the other order and without a prefix cache."""
    wanted, is_odd = requests(), bool(list(CUTS).index(cut) % 2)
    if is_night() or not is_odd:
        assert vectors(model, wanted, **CUTS[cut]) == alone
    if is_night() or is_odd:
        assert vectors(model, wanted[::-1], enable_prefix_caching=False, **CUTS[cut]) == alone


def test_answers_beside_embeddings_keep_their_bits(
    model: Transformer, alone: dict[str, list[float]]
) -> None:
    """Both kinds in one step, some of them preempted: nobody notices."""
    answers = [
        make_request(str(i), [i + 1] * 30, max_tokens=40, ignore_eos=True, logprobs=1)
        for i in range(3)
    ]
    expected = {
        request.request_id: run_all(make_core(model), [request])[request.request_id]
        for request in answers
    }
    core = make_core(model, num_blocks=STARVED, max_num_batched_tokens=40)
    found = run_all(core, [*answers, *requests()])
    for request in answers:
        tokens = [token for o in found[request.request_id] for token in o.token_ids]
        assert tokens == [t for o in expected[request.request_id] for t in o.token_ids]
    assert {name: found[name][-1].embedding for name in alone} == alone
    assert core.stats().preemptions_total > 0


def test_a_preempted_embedding_starts_its_sum_again(model: Transformer) -> None:
    """Counting a chunk twice would be a wrong vector that looks like any other."""
    growing = make_request("a", [3] * 20, max_tokens=100, ignore_eos=True)
    long = embedding("long", [(5 * i) % 97 for i in range(112)])
    core = make_core(model, num_blocks=10, max_num_batched_tokens=2, max_num_seqs=2)
    found = run_all(core, [growing, long])
    assert core.stats().preemptions_total > 0
    assert found["long"][-1].embedding == vectors(model, [long])["long"]


def test_hidden_states_that_are_no_numbers_fail_their_request_alone() -> None:
    model = random_model(MODELS["llama"])
    model.embed_tokens.weight.data[13] = torch.nan
    found = run_all(make_core(model), [embedding("bad", [1, 13]), embedding("good", [1, 2])])
    assert found["bad"][-1].finish_reason is FinishReason.ERROR
    assert found["bad"][-1].embedding is None
    assert found["good"][-1].embedding


def test_values_are_summed_exactly_and_the_largest_are_cut() -> None:
    hidden = torch.tensor([[1.5, -(2.0**-28), 1e30], [0.25, 2.0**-28, 0.0]])
    assert sum_hidden(hidden)["hidden_sums"] == [
        7 << (FRACTION_BITS - 2),
        0,
        int(MAX_HIDDEN) << FRACTION_BITS,
    ]


def test_vectors_have_length_1() -> None:
    assert unit_vector([3, -4]) == [0.6, -0.8]
    assert unit_vector([0, 0]) == [0.0, 0.0]
    assert sum(x * x for x in unit_vector([2**62, 1, -(2**62)])) == pytest.approx(1)
    assert add_sums([], [1, 2]) == [1, 2]
    assert add_sums([1, 2], [3, 4]) == [4, 6]
    assert add_sums([1, 2], []) == [1, 2]


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("chunk", [5, 512])
def test_embeddings_are_the_normalized_mean_of_transformers_hidden_states(
    make: Any, chunk: int, tmp_path: Path
) -> None:
    """Through our own loader; their last hidden states are behind the final norm, as ours."""
    torch.set_num_threads(1)
    theirs = make(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    cpu = torch.device("cpu")
    backend = choose_attention("auto", cpu)
    ours = Transformer(checkpoint.config, backend, dtype=torch.float32, device=cpu)
    load_weights(checkpoint, ours)
    ours.finish()
    generator = torch.Generator().manual_seed(2)
    for length in (1, 2, 33, 128):
        ids = torch.randint(512, (length,), generator=generator).tolist()
        with torch.no_grad():
            hidden = theirs.base_model(torch.tensor([ids])).last_hidden_state[0]
        mean = hidden.double().mean(0)
        expected = mean / mean.norm()
        sizes = {"max_num_batched_tokens": chunk, "max_num_seqs": min(chunk, 8)}
        found = torch.tensor(vectors(ours, [embedding("x", ids)], **sizes)["x"])
        assert torch.allclose(found.double(), expected, atol=1e-4, rtol=0)
