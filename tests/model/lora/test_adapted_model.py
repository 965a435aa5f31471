"""Low-rank adapters beside a base that stays as it is, against weights that have them merged in."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.model.lora.adapters import merged_model, random_factors
from tests.model.steps import Row, make_batch
from tests.model.tiny import BESIDE, GPT2, LLAMA, MIXED, change, make_cache, random_model
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import LoraFactors
from thirdeye.model.native.library import Library
from thirdeye.model.taped import TapedSteps
from thirdeye.model.transformer import Transformer

CONFIGS = {
    "llama": LLAMA,
    "wide": change(LLAMA, hidden_size=80, intermediate_size=600, head_dim=20),
    "mixed": MIXED,
    "gpt2": GPT2,
    "gated": change(LLAMA, attention_gate=True),
    "parallel": change(GPT2, is_parallel=True),
}
KERNELS = ("torch", "native")
ADAPTERS = (7, 9)  # numbers, as an engine gives them
BLOCK_SIZE, BLOCKS_EACH = 4, 4


@pytest.fixture(params=KERNELS)
def library(request: pytest.FixtureRequest) -> Library | None:
    return request.getfixturevalue("native") if request.param == "native" else None


def adapted_model(config: ModelConfig, quantize: str, library: Library | None) -> Transformer:
    """With one adapter small and one large."""
    model = random_model(config, quantize=quantize, native=library, max_adapters=3)
    assert model.adapters is not None
    for number, factors in zip(ADAPTERS, both(config), strict=True):
        model.adapters.load(number, factors)
    return model


def both(config: ModelConfig) -> tuple[list[LoraFactors], list[LoraFactors]]:
    return random_factors(config, 1), random_factors(config, 2, rank=37, size=0.05)


def step(tokens: dict[int, list[int]], slots: dict[int, int], past: int = 0) -> ForwardBatch:
    """Sequence -> its tokens, and -> the slot of its adapter."""
    rows = [
        Row(ids, past, range(i * BLOCKS_EACH, (i + 1) * BLOCKS_EACH)) for i, ids in tokens.items()
    ]
    of_tokens = [slots.get(i, -1) for i, ids in tokens.items() for _ in ids]
    found = torch.tensor(of_tokens, dtype=torch.int32) if slots else None
    return replace(make_batch(rows, BLOCK_SIZE, "all"), adapter_slots=found)


def prompts(count: int = 4) -> dict[int, list[int]]:
    rng = random.Random(0)
    return {i: [rng.randrange(97) for _ in range(rng.choice([1, 5, 9]))] for i in range(count)}


def logits(model: Transformer, batch: ForwardBatch) -> Tensor:
    cache = make_cache(model.config, 4 * BLOCKS_EACH, BLOCK_SIZE)
    with torch.inference_mode():
        return model(batch, cache).clone()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_as_if_merged(config: ModelConfig, library: Library | None) -> None:
    """Two adapters and the base in one step, each with the logits of its own merged weights."""
    model = adapted_model(config, "none", library)
    assert model.adapters is not None
    table = model.adapters.slots
    tokens = prompts()
    mixed = logits(model, step(tokens, {0: table[7], 1: table[9], 3: table[7]}))
    twins = [random_model(config), *(merged_model(config, factors) for factors in both(config))]
    base, small, large = (logits(twin, step(tokens, {})) for twin in twins)
    parts = [len(ids) for ids in tokens.values()]
    for got, expected in zip(
        mixed.split(parts),
        (each.split(parts)[i] for i, each in enumerate((small, large, base, small))),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (base - small).abs().max() > 0.1  # and they do say something


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_rows_do_not_know_of_others(library: Library | None, quantize: str) -> None:
    """A base row has the bits it has in a model without adapters, an adapter's those it has alone,
    in any order, chunk by chunk, and beside a row more."""
    config = CONFIGS["wide"]
    model = adapted_model(config, quantize, library)
    plain = random_model(config, quantize=quantize, native=library)
    assert model.adapters is not None
    slots = {0: model.adapters.slots[7], 2: model.adapters.slots[9]}
    tokens = prompts()
    together = logits(model, step(tokens, slots)).split([len(ids) for ids in tokens.values()])
    for i, ids in tokens.items():
        own = {i: slots[i]} if i in slots else {}
        assert torch.equal(logits(model if own else plain, step({i: ids}, own)), together[i])
        assert torch.equal(logits(model, step({i: ids}, own)), together[i])
    backwards = dict(reversed(tokens.items()))
    again = logits(model, step(backwards, slots)).split([len(ids) for ids in backwards.values()])
    for got, i in zip(again, backwards, strict=True):
        assert torch.equal(got, together[i])


@pytest.mark.parametrize("quantize", ["none", "int8", "q8_0", "q4_0"])
def test_beside_weights_in_fewer_bits(native: Library, quantize: str) -> None:
    """What is added is B A x, however the base's weights are kept."""
    config = change(LLAMA, hidden_size=64, intermediate_size=96, head_dim=16)
    model = adapted_model(config, quantize, native)
    assert model.adapters is not None
    factors = [one for one in both(config)[1] if one.layer == "blocks.1.mlp.down"]
    layer = model.get_submodule("blocks.1.mlp.down")
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        base = layer(x)
        with model.adapters.on_all_rows(9):
            adapted = layer(x)
    expected = x.double() @ factors[0].a.double().t() @ factors[0].b.double().t()
    torch.testing.assert_close((adapted - base).double(), expected, atol=1e-4, rtol=1e-4)


def test_chunks_change_no_bit(library: Library | None) -> None:
    model = adapted_model(LLAMA, "none", library)
    assert model.adapters is not None
    ids, slots = list(range(1, 12)), {0: model.adapters.slots[9]}
    whole = logits(model, step({0: ids}, slots))
    cache = make_cache(LLAMA, 4 * BLOCKS_EACH, BLOCK_SIZE)
    with torch.inference_mode():
        pieces = [
            model(step({0: ids[start : start + 3]}, slots, past=start), cache).clone()
            for start in range(0, len(ids), 3)
        ]
    assert torch.equal(torch.cat(pieces), whole)


def test_an_adapter_that_comes_and_goes(library: Library | None) -> None:
    """Its slot is another's afterwards, and nothing of it is left."""
    model = adapted_model(LLAMA, "none", library)
    assert model.adapters is not None
    ids = {0: [3, 1, 4, 1, 5]}
    before = logits(model, step(ids, {0: model.adapters.slots[7]}))
    size = model.adapters.num_bytes
    model.adapters.unload(9)
    # Of the attention's output alone: elsewhere the slot must be empty again.
    factors = [one for one in random_factors(LLAMA, 5) if one.layer.endswith("attention.output")]
    model.adapters.load(11, factors)
    assert torch.equal(logits(model, step(ids, {0: model.adapters.slots[7]})), before)
    got = logits(model, step(ids, {0: model.adapters.slots[11]}))
    expected = logits(merged_model(LLAMA, factors), step(ids, {}))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert model.adapters.num_bytes < size
    model.adapters.load(12, factors)
    with pytest.raises(ValueError, match="all 3 slots of '--max-loras' are taken"):
        model.adapters.load(13, factors)


def test_from_tape(native: Library) -> None:
    """Steps with adapters come from tapes of their own, of the same bits; an adapter that is loaded
    later is found by those that are there."""
    torch.set_num_threads(1)
    model = adapted_model(LLAMA, "int8", native)
    assert model.adapters is not None
    assert isinstance(model._raw_of, TapedSteps)
    ids = {0: [3], 1: [5], 2: [7]}

    def run(slots: dict[int, int]) -> Tensor:
        return logits(model, step(ids, slots))

    first, second = {0: model.adapters.slots[7]}, {1: model.adapters.slots[9]}
    cache = make_cache(LLAMA, 4 * BLOCKS_EACH, BLOCK_SIZE)
    with torch.inference_mode():
        plain = [run(first), run(second), run({})]  # each in a cache of its own: no tape is used
        for slots, expected in zip((first, second, {}, first, second, {}), plain * 2, strict=True):
            assert torch.equal(model(step(ids, slots), cache), expected)
        assert len(model._raw_of._recordings) == 2  # with adapters, and without
        assert None not in model._raw_of._recordings.values()
        model.adapters.unload(9)
        model.adapters.load(13, random_factors(LLAMA, 8, rank=64))
        later = {1: model.adapters.slots[13]}
        taped = model(step(ids, later), cache).clone()
        assert torch.equal(taped, run(later))
        assert not torch.equal(taped, plain[1])


def test_layers_that_keep_states_are_left_alone(library: Library | None) -> None:
    """Attention beside a state is adapted, the state's layers are not."""
    factors = random_factors(BESIDE, 1)
    assert {one.layer.split(".", 2)[2] for one in factors} == {
        "attention.qkv",
        "attention.output",
        "mlp.gate_up",
        "mlp.down",
    }
    model = random_model(BESIDE, native=library, max_adapters=1)
    assert model.adapters is not None
    model.adapters.load(1, factors)
