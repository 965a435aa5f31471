"""Layers in groups that share blocks: how they are dealt out, and that no bit changes by it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, LLAMA, MIXED, NEAR_AND_FAR, change, random_model
from thirdeye.model.batch import ForwardBatch, GroupBlocks
from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.memory_estimate import kv_of_context
from thirdeye.model.native.library import Library
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.state.kv_groups import BlockView, KVGroups, kv_groups, one_group
from thirdeye.model.transformer import Transformer

BLOCK = 4
SCHEDULING = Path(__file__).resolve().parents[3] / "docs" / "scheduling.md"
WINDOW = 20


def with_windows(*windows: int | None, context: int = 1000) -> ModelConfig:
    attention = tuple(AttentionSpec(window=window) for window in windows)
    return change(
        LLAMA, num_hidden_layers=len(windows), attention=attention, max_position_embeddings=context
    )


def test_five_of_six_layers_have_a_window() -> None:
    """Gemma 3 4B: 29 layers of 1,024 tokens, 5 of 131,072."""
    windows = [None if layer % 6 == 5 else 1024 for layer in range(34)]
    config = with_windows(*windows, context=131_072)
    groups = kv_groups(config)
    assert groups.windows == (0, 1024, 1024, 1024, 1024, 1024, 1024)
    assert groups.num_places == 5
    everything = [layer for layer, group in enumerate(groups.group_of) if group == 0]
    assert everything == [5, 11, 17, 23, 29]
    assert len(set(zip(groups.group_of, groups.place_of, strict=True))) == 34
    size = kv_bytes_per_block(config, 16, torch.float16, groups)
    assert size * 34 == 5 * kv_bytes_per_block(config, 16, torch.float16)


def test_every_other_layer_has_a_window() -> None:
    """gpt-oss."""
    groups = kv_groups(with_windows(*[128, None] * 3))
    views = (BlockView(1), BlockView(0)) * 3
    assert groups == KVGroups((0, 128), 3, views, (0, 0, 1, 1, 2, 2))


def test_all_layers_have_one_window() -> None:
    """Mistral."""
    config = with_windows(40, 40, 40)
    assert kv_groups(config) == one_group(config, 40)
    assert not kv_groups(config).is_plain


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        with_windows(1000, 5000, None),  # no text is longer
        with_windows(None, 900, 900),  # next to nothing is gained
        change(
            with_windows(20, None),
            attention=(AttentionSpec(window=20, head_dim=6), AttentionSpec()),  # of 8
        ),
    ],
)
def test_one_group_that_keeps_everything(config: ModelConfig) -> None:
    assert kv_groups(config) == one_group(config)
    assert kv_groups(config).is_plain


def of_two_sizes(
    near: tuple[int, int], far: tuple[int, int], *, window: int, period: int, num_layers: int
) -> ModelConfig:
    """(key heads, their size) of layers with a window, and of the last of each so many."""
    attention = tuple(
        AttentionSpec(num_kv_heads=far[0], head_dim=far[1])
        if layer % period == period - 1
        else AttentionSpec(window=window, num_kv_heads=near[0], head_dim=near[1])
        for layer in range(num_layers)
    )
    return change(
        LLAMA,
        num_heads=16,
        num_hidden_layers=num_layers,
        attention=attention,
        max_position_embeddings=131_072,
    )


# Of Gemma 4, layers that keep any; megabytes of 32,768 tokens in 16 bits, kept and all, as
# docs/scheduling.md tells.
GEMMA_4 = {
    "E2B": (
        of_two_sizes((1, 256), (1, 512), window=512, period=5, num_layers=15),
        (208, 604),
    ),
    "26B-A4B": (
        of_two_sizes((8, 256), (2, 512), window=1024, period=6, num_layers=30),
        (1312, 7382),
    ),
    "31B": (
        of_two_sizes((16, 256), (4, 512), window=1024, period=6, num_layers=60),
        (5249, 29528),
    ),
}


@pytest.mark.parametrize("name", GEMMA_4)
def test_layers_of_two_sizes(name: str) -> None:
    """E2B's layers that see all are twice as large as the others, those of the larger half."""
    config, (kept, whole) = GEMMA_4[name]
    per_token = 2 * config.kv_numbers
    assert round(kv_of_context(config, per_token, 32_768) / 1e6) == kept
    assert round(32_768 * per_token / 1e6) == whole
    groups, layers = kv_groups(config), range(len(config.kv_shapes))
    assert groups.windows[0] == 0
    places = list(zip(groups.view_of, groups.place_of, strict=True))
    assert len(set(places)) == len(layers)  # no two lie at one place
    for group in range(len(groups.windows)):
        own = [layer for layer in layers if groups.group_of[layer] == group]
        assert len({config.attention_of(layer).window for layer in own}) == 1
    assert f"{kept:,} of {whole:,} MB" in SCHEDULING.read_text()


def test_a_layer_whose_keys_another_reads_is_kept_as_long_as_that_one_looks() -> None:
    readers = {None: 0, 30: 30, 10: 20}
    for window, expected in readers.items():
        attention = (
            AttentionSpec(window=20),
            AttentionSpec(),
            AttentionSpec(window=window, source=0),
        )
        config = change(with_windows(20, None, None), attention=attention)
        assert set(kv_groups(config).windows) == {0, expected}


def test_few_block_tables_for_many_layers() -> None:
    groups = kv_groups(with_windows(None, *[20] * 40))
    assert len(groups.windows) <= 8
    assert groups.windows[0] == 0


class Tables:
    """A text's blocks in each group: what lies behind a window is another's in the next step."""

    def __init__(self, groups: KVGroups) -> None:
        self._windows = groups.windows
        self._tables: list[list[int]] = [[] for _ in groups.windows]
        self._free = list(range(100))[::-1]

    def step(self, token_ids: list[int], past: int) -> ForwardBatch:
        for table, window in zip(self._tables, self._windows, strict=True):
            for i in range(max(0, past - window + 1) // BLOCK if window else 0):
                if table[i] >= 0:
                    self._free.append(table[i])
                table[i] = -1
        end = past + len(token_ids)
        for table in self._tables:
            table += [self._free.pop() for _ in range(-(-end // BLOCK) - len(table))]
        known = [[max(block, 0) for block in table] for table in self._tables]
        batch, *others = [make_batch([Row(token_ids, past, own)], BLOCK, "all") for own in known]
        return replace(
            batch, other_groups=tuple(GroupBlocks(b.slot_mapping, b.block_table) for b in others)
        )


def logits(model: Transformer, groups: KVGroups, dtype: torch.dtype, chunk: int) -> Tensor:
    """Of a text in chunks, and then token by token."""
    cache = make_kv_cache(model.config, 60, BLOCK, dtype, CPU, groups=groups)
    text, tables = [(7 * i) % 97 for i in range(60)], Tables(groups)
    said: list[Tensor] = []
    with torch.inference_mode():
        while (past := sum(map(len, said))) < len(text):
            step = text[past : past + (chunk if past < 40 else 1)]
            said.append(model(tables.step(step, past), cache).clone())
    return torch.cat(said)


SMALL_NEAR = change(
    NEAR_AND_FAR,
    attention=tuple(
        replace(spec, head_dim=None if spec.window else 2 * LLAMA.head_dim)
        for spec in NEAR_AND_FAR.attention
    ),
)
SMALL_FAR = change(
    NEAR_AND_FAR,
    attention=tuple(
        replace(spec, num_kv_heads=None if spec.window else 1) for spec in NEAR_AND_FAR.attention
    ),
)
CONFIGS = {
    "near and far": NEAR_AND_FAR,
    "mixed": MIXED,
    "small and near": SMALL_NEAR,
    "small and far": SMALL_FAR,
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("how", ["blocked", "native", "native int8"])
def test_no_bit_changes(config: ModelConfig, how: str, native: Library) -> None:
    """Also of steps that come from tape."""
    model = random_model(config, native=native if "native" in how else None)
    dtype = torch.int8 if "int8" in how else torch.float32
    expected = logits(model, one_group(config), dtype, chunk=7)
    groups = kv_groups(config)
    assert len(groups.windows) > 1
    assert torch.equal(logits(model, groups, dtype, chunk=7), expected)
    assert torch.equal(logits(model, groups, dtype, chunk=40), expected)


def test_layers_of_different_groups_share_memory() -> None:
    groups = kv_groups(NEAR_AND_FAR)
    cache = KVCache(NEAR_AND_FAR, 5, 16, torch.float32, CPU, groups=groups)
    assert len(cache.keys) == groups.num_places == 2
    owners: dict[int, list[int]] = {}
    for layer in range(6):
        owners.setdefault(cache.layer(layer)[0].data_ptr(), []).append(layer)
    assert sorted(map(len, owners.values())) == [3, 3]
    for layers in owners.values():
        assert len({groups.group_of[layer] for layer in layers}) == 3
    tensors = [*cache.keys, *cache.values]
    size = kv_bytes_per_block(NEAR_AND_FAR, 16, torch.float32, groups)
    assert size * 5 == sum(t.nbytes for t in tensors)
