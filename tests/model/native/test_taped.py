"""Steps from tape have the bits of steps without: any order of shapes, any content, any cache."""

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.draws import also_at_night, pairwise
from tests.model.steps import Row, make_batch
from tests.model.tiny import GPT2, LLAMA, change, make_cache, random_model
from thirdeye.model import taped
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.batch import ForwardBatch, PlainStep
from thirdeye.model.config import Activation, AttentionSpec, ModelConfig, Norm, RopeConfig
from thirdeye.model.fast_path import FastPath
from thirdeye.model.native.library import Library
from thirdeye.model.native.paged_attention import Tiles
from thirdeye.model.native.tapes.tape import Tape, TapeSegment
from thirdeye.model.native.tapes.torch_call import TorchCall
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.taped import TapedSteps
from thirdeye.model.transformer import Transformer

WIDE = change(LLAMA, max_position_embeddings=512, head_dim=16, num_heads=4)
BLOCK_SIZE, BLOCKS_EACH = 16, 20

NEAR, FAR = RopeConfig(theta=10_000.0, dim=16), RopeConfig(theta=1e6, dim=8)
TWO_ROPES = change(
    WIDE,
    num_hidden_layers=3,
    activation=Activation.GELU_TANH,
    attention=(
        AttentionSpec(rope=NEAR, window=20, softcap=30.0),
        AttentionSpec(rope=FAR, scale=0.3, sinks=True),
        AttentionSpec(),  # not turned at all
    ),
)
MODELS = {
    "llama": WIDE,
    "qk-norm": change(WIDE, qk_norm=True, qkv_bias=True),
    "gated-gelu": change(WIDE, activation=Activation.GELU, mlp_bias=True),
    "gated-gelu-tanh": change(WIDE, activation=Activation.GELU_TANH),
    "layer-norm": change(WIDE, norm=Norm.LAYER_NORM),
    "gpt2": change(GPT2, max_position_embeddings=512),
    "plain-gelu": change(WIDE, gated_mlp=False, activation=Activation.GELU),
    "two-ropes": TWO_ROPES,
}


def models(
    native: Library, config: ModelConfig, quantize: str = "int8"
) -> tuple[Transformer, Transformer]:
    """(with tapes, without), of the same weights and kernels."""
    ours, plain = (random_model(config, quantize=quantize, native=native) for _ in range(2))
    assert isinstance(ours._raw_of, TapedSteps)
    plain._raw_of = plain._make_raw
    return ours, plain


def random_step(rng: random.Random) -> ForwardBatch:
    """One to four sequences with one to five tokens each, somewhere in their lives."""
    rows = []
    for i in rng.sample(range(4), rng.choice([1, 1, 2, 4])):  # its blocks, and no others
        tokens = [rng.randrange(97) for _ in range(rng.choice([1, 1, 1, 5]))]
        blocks = range(i * BLOCKS_EACH, (i + 1) * BLOCKS_EACH)
        rows.append(Row(tokens, rng.choice([0, 15, 16, 63, 64, 100, 300]), blocks))
    return make_batch(rows, BLOCK_SIZE, "all")


def cache(config: ModelConfig) -> KVCache:
    made = make_cache(config, 4 * BLOCKS_EACH, BLOCK_SIZE)
    for layer in range(config.num_hidden_layers):
        for tensor in made.layer(layer):
            tensor.normal_(generator=torch.Generator().manual_seed(layer))
    return made


@pytest.mark.parametrize("is_odd", [False, True])
def test_tapes_lie_in_the_memory_of_the_largest(native: Library, is_odd: bool) -> None:
    """However many there are, what torch does between their segments included: an output that each
    kept made a server grow for an hour."""
    torch.set_num_threads(1)

    def num_bytes(sizes: range) -> int:
        ours, _ = models(native, WIDE)
        if is_odd:
            in_every_layer(ours)
        kv_cache = cache(WIDE)
        for size in sizes:
            step = make_batch([Row([1] * size, 0, range(BLOCKS_EACH))], BLOCK_SIZE, "all")
            for _ in range(2):
                ours(step, kv_cache)
        blocks = ours._raw_of
        assert isinstance(blocks, TapedSteps)
        assert len(blocks._recordings) == len(sizes)
        return sum(map(len, blocks._memory))

    assert num_bytes(range(4, 65, 4)) <= 2 * num_bytes(range(64, 65))  # three times, when each kept


@also_at_night
@pytest.mark.parametrize(
    ("name", "quantize", "threads"), pairwise(MODELS, ("int8", "none"), (1, 2))
)
def test_any_steps(native: Library, name: str, quantize: str, threads: int) -> None:
    config = MODELS[name]
    torch.set_num_threads(threads)
    ours, plain = models(native, config, quantize)
    rng = random.Random(0)
    our_cache, plain_cache = cache(config), cache(config)
    for _ in range(100):
        step = random_step(rng)
        assert torch.equal(ours(step, our_cache), plain(step, plain_cache))
    assert num_recorded(ours) > 5
    assert not ours.tape.reason
    assert ours.tape.num_missed == 0
    for layer in range(config.num_hidden_layers):
        pairs = zip(our_cache.layer(layer), plain_cache.layer(layer), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


class OddNorm(nn.Module):
    """Of which there is no kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.median(-1, keepdim=True).values) / (x.std(-1, keepdim=True) + 1e-3)

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        x = x + delta
        return x, self(x)


def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.relu()


def at_the_start(model: Transformer) -> None:
    first = model.blocks[0]
    first.register_forward_pre_hook(lambda block, inputs: (inputs[0].relu(), *inputs[1:]))


def in_the_middle(model: Transformer) -> None:
    model.blocks[1].mlp.register_forward_hook(hook)


def at_the_end(model: Transformer) -> None:
    model.blocks[-1].register_forward_hook(hook)


def in_every_layer(model: Transformer) -> None:
    for block in model.blocks:
        block.mlp._gate = lambda both: both.chunk(2, -1)[0].relu() * both.chunk(2, -1)[1]


def odd_norms(model: Transformer) -> None:
    for block in model.blocks:
        block.mlp_norm = OddNorm()


RELU = "aten.relu.default"
ODD_MODELS = {  # what is done to a model -> the operations that only torch has
    at_the_start: RELU,
    in_the_middle: RELU,
    at_the_end: RELU,
    in_every_layer: "aten.relu.default, aten.mul.Tensor",
    odd_norms: "aten.median.dim, aten.sub.Tensor, aten.std.correction, aten.add.Tensor, "
    "aten.div.Tensor",
}


@pytest.mark.parametrize("change_model", ODD_MODELS)
def test_an_unknown_operation_ends_a_segment(
    native: Library,
    caplog: pytest.LogCaptureFixture,
    change_model: Callable[[Transformer], None],
) -> None:
    """All else is on tape, with the same bits; it is named once, and the steps are counted."""
    torch.set_num_threads(1)
    config = change(WIDE, num_hidden_layers=3)
    ours, plain = models(native, config)
    for model in (ours, plain):
        change_model(model)
    rng = random.Random(0)
    our_cache, plain_cache = cache(config), cache(config)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            step = random_step(rng)
            assert torch.equal(ours(step, our_cache), plain(step, plain_cache))
    for layer in range(config.num_hidden_layers):
        pairs = zip(our_cache.layer(layer), plain_cache.layer(layer), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    names = ODD_MODELS[change_model]
    assert [record.message for record in caplog.records] == [
        f"steps go without the whole tape, which is faster: {names}"
    ]
    assert str(ours.tape) == f"whole tape: {names}"
    assert 3 < num_recorded(ours) < ours.tape.num_missed < 40, "a shape's first step is looked at"
    assert isinstance(ours._raw_of, TapedSteps)
    for recording in filter(None, ours._raw_of._recordings.values()):
        parts = recording._tape.parts
        assert sum(isinstance(part, TapeSegment) for part in parts) in range(1, 7)
        in_c = sum(len(part.calls) for part in parts if isinstance(part, TapeSegment))
        assert in_c > sum(isinstance(part, TorchCall) for part in parts)


def test_a_chunk_of_a_prompt_beside_decoded_tokens_is_on_tape(
    native: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 sequences that decode, and 32 tokens of a prompt that is cut anywhere."""
    torch.set_num_threads(1)
    ours, plain = models(native, WIDE)
    replays: list[Tape] = []
    replay = Tape.replay
    monkeypatch.setattr(Tape, "replay", lambda tape: replays.append(tape) or replay(tape))
    our_cache, plain_cache = (make_cache(WIDE, 33 * 4, BLOCK_SIZE) for _ in range(2))
    for turn in range(4):
        decoded = [Row([turn + i], 10 + turn, range(4 * i, 4 * i + 4)) for i in range(32)]
        chunk = Row([3 * turn + i for i in range(32)], 17 + turn, range(128, 132))
        step = make_batch([*decoded, chunk], BLOCK_SIZE)
        assert torch.equal(ours(step, our_cache), plain(step, plain_cache))
        assert len(replays) == turn, "each but the first"
    assert ours.tape.is_taken
    assert not ours.tape.reason


@pytest.mark.parametrize("quantize", ["int8", "none"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_taped_token_does_not_know_its_company(
    native: Library, config: ModelConfig, quantize: str
) -> None:
    """Alone or with three others that are computed in the same step, again and again."""
    model, _ = models(native, config, quantize)
    row = Row([5], 100, range(BLOCKS_EACH))
    others = [Row([7, 8], 30, range(i * BLOCKS_EACH, (i + 1) * BLOCKS_EACH)) for i in (1, 2, 3)]
    alone, together = make_batch([row], BLOCK_SIZE), make_batch([*others, row], BLOCK_SIZE)
    kv_cache = cache(config)
    for _ in range(3):
        expected = model(alone, kv_cache).clone()
        assert torch.equal(model(together, kv_cache)[-1:], expected)
    assert num_recorded(model) == 2


@pytest.mark.parametrize("quantize", ["int8", "none"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_id_beyond_the_table_is_told(native: Library, name: str, quantize: str) -> None:
    """Nothing asks for one. If anything did, its logits are no numbers, and those beside it are as
    ever."""
    model, plain = models(native, MODELS[name], quantize)
    kv_cache = cache(MODELS[name])
    beside = Row([7], 30, range(BLOCKS_EACH, 2 * BLOCKS_EACH))
    expected = plain(make_batch([beside], BLOCK_SIZE), cache(MODELS[name]))
    for token in (5, 6, 97, -1, 1 << 40, 8):
        step = make_batch([Row([token], 20, range(BLOCKS_EACH)), beside], BLOCK_SIZE)
        asked, other = model(step, kv_cache)
        assert bool(asked.isnan().all()) == (token not in range(97))
        assert torch.equal(other, expected[0])
    assert num_recorded(model) == 1


def num_recorded(model: Transformer) -> int:
    assert isinstance(model._raw_of, TapedSteps)
    return sum(tape is not None for tape in model._raw_of._recordings.values())


def logits(model: Transformer, kv_cache: KVCache, token: int = 5) -> Tensor:
    return model(make_batch([Row([token], 20, range(BLOCKS_EACH))], BLOCK_SIZE), kv_cache).clone()


def test_the_second_step_of_a_shape_is_recorded(native: Library) -> None:
    """The first may be the only one."""
    model, plain = models(native, WIDE)
    kv_cache = cache(WIDE)
    for recorded in (0, 1, 1, 1):
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))
        assert num_recorded(model) == recorded


def test_another_cache_is_another_tape(native: Library) -> None:
    """Addresses of the old one must not be written to."""
    model, plain = models(native, WIDE)
    old, new = cache(WIDE), cache(WIDE)
    for _ in range(3):
        logits(model, old)
    before = [tensor.clone() for tensor in old.layer(1)]
    for token in (7, 8, 9):
        assert torch.equal(logits(model, new, token), logits(plain, cache(WIDE), token))
    assert all(torch.equal(a, b) for a, b in zip(before, old.layer(1), strict=True))


def test_other_threads_are_another_tape(native: Library) -> None:
    """Scratch memory is per thread."""
    model, plain = models(native, WIDE)
    kv_cache = cache(WIDE)
    for threads in (1, 1, 1, 3, 3, 3, 1):
        torch.set_num_threads(threads)
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))


def test_tapes_are_bounded(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taped, "MAX_TAPES", 2)
    model, _ = models(native, WIDE)
    kv_cache = cache(WIDE)
    for _ in range(2):
        for count in (1, 2, 3):
            row = Row([1] * count, 0, range(BLOCKS_EACH))
            model(make_batch([row], BLOCK_SIZE), kv_cache)
        assert isinstance(model._raw_of, TapedSteps)
        assert len(model._raw_of._recordings) == 2


def test_a_tape_that_decodes_stays(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many other shapes come between its steps, which are written as numbers."""
    monkeypatch.setattr(taped, "MAX_TAPES", 2)
    model, plain = models(native, WIDE)
    kv_cache, blocks = cache(WIDE), list(range(BLOCKS_EACH))
    decode = model.decoder(kv_cache)
    assert decode is not None
    expected = logits(plain, cache(WIDE))
    step = PlainStep([5], [20], [1], [blocks], BLOCK_SIZE)
    assert decode(step) is None
    for _ in range(2):
        logits(model, kv_cache)
    for count in (2, 3, 4, 5):
        found = decode(step)
        assert found is not None
        assert torch.equal(found, expected)
        model(make_batch([Row([1] * count, 100, blocks)], BLOCK_SIZE), kv_cache)


def test_a_step_of_several_tokens_each_from_its_numbers(native: Library) -> None:
    """Any numbers of them: a tape of as many tokens, sequences and columns does for all."""
    model, plain = models(native, WIDE)
    our_cache, plain_cache = cache(WIDE), cache(WIDE)
    decode = model.decoder(our_cache)
    assert decode is not None
    for turn, counts in enumerate([(3, 1, 2), (1, 3, 2), (2, 1, 3), (3, 2, 1), (1, 2, 3)]):
        own = [range(i * BLOCKS_EACH, (i + 1) * BLOCKS_EACH) for i in range(3)]
        rows = [
            Row([turn + 5 * at for at in range(count)], 100 + 7 * turn + i, own[i])
            for i, count in enumerate(counts)
        ]
        step = make_batch(rows, BLOCK_SIZE, "all")
        found = decode(
            PlainStep(
                [token_id for row in rows for token_id in row.token_ids],
                [row.past for row in rows],
                list(counts),
                [list(row.blocks) for row in rows],
                BLOCK_SIZE,
            )
        )
        assert (found is not None) == (turn > 1)
        logits = model(step, our_cache) if found is None else found
        assert torch.equal(logits, plain(step, plain_cache))
    for layer in range(WIDE.num_hidden_layers):
        pairs = zip(our_cache.layer(layer), plain_cache.layer(layer), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_cannot_be_recorded_is_named_once(
    native: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """The operation, in the log and for who asks; each small step that goes without is counted."""
    (model, plain), kv_cache = models(native, WIDE), cache(WIDE)
    for each in (model, plain):
        mlp = each.blocks[1].mlp
        mlp.register_forward_hook(lambda module, inputs, output: output * output.max().item())
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))
    name = "aten._local_scalar_dense.default"
    assert str(model.tape) == f"tape: {name}"
    assert [record.message for record in caplog.records] == [
        f"steps go without the tape, which is faster: {name}"
    ]
    assert model.tape.num_missed == 3, "the first is only looked at"
    long = make_batch([Row([1] * (taped.MAX_TOKENS + 1), 0, range(BLOCKS_EACH))], BLOCK_SIZE)
    model(long, kv_cache)
    assert model.tape.num_missed == 3, "for this one no tape is made"
    assert num_recorded(model) == 0


class Opaque:
    """A plan that nobody can look into, and that is another object in each step."""

    def __init__(self, tiles: Tiles) -> None:
        self.tiles = tiles


class OpaqueAttention(NativeAttention):
    def for_layers(self, spec: AttentionSpec) -> "OpaqueAttention":
        return OpaqueAttention(self._library, spec)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> Any:
        return Opaque(super().plan(batch, kv_cache))

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, plan: Any, *sinks: Any
    ) -> Tensor:
        return super().forward(query, keys, values, plan.tiles, *sinks)


def test_a_plan_that_cannot_be_looked_into_is_refused(native: Library) -> None:
    """As a part of the shape it would be a new one in each step, and would keep all its tensors."""
    attention = OpaqueAttention(native)
    model = random_model(WIDE, attention, quantize="int8", native=native)
    kv_cache, plain = cache(WIDE), models(native, WIDE)[1]
    for _ in range(3):
        assert torch.equal(logits(model, kv_cache), logits(plain, cache(WIDE)))
    assert "Opaque" in model.tape.reason
    assert model.tape.num_missed == 3
    assert isinstance(model._raw_of, TapedSteps)
    assert not model._raw_of._recordings, "nothing of any step is kept"


def test_long_steps_are_not_recorded(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tape, "__init__", lambda *_: pytest.fail("recorded"))
    model, _ = models(native, WIDE)
    kv_cache = cache(WIDE)
    for _ in range(3):
        row = Row([1] * (taped.MAX_TOKENS + 1), 0, range(BLOCKS_EACH))
        model(make_batch([row], BLOCK_SIZE), kv_cache)


def test_another_dtype_is_the_reason() -> None:
    tape = FastPath("tape")
    where = Placement(torch.bfloat16, torch.device("cpu"))
    taped.tape_steps(lambda batch, *_: batch, where, BlockedAttention(), tape, [])
    assert tape.reason == "native kernels are for float32 alone"


def test_a_machine_without_kernels_says_so(native: Library) -> None:
    """And so does attention that was asked for and is torch's."""
    without, blocked = random_model(WIDE), random_model(WIDE, BlockedAttention(), native=native)
    for model, reason in (
        (without, "there are no native kernels"),
        (blocked, "BlockedAttention is torch's"),
    ):
        assert model.tape.reason == reason
        kv_cache = cache(WIDE)
        for count in (1, 2, taped.MAX_TOKENS + 1):
            model(make_batch([Row([1] * count, 0, range(BLOCKS_EACH))], BLOCK_SIZE), kv_cache)
        assert model.tape.num_missed == 2
