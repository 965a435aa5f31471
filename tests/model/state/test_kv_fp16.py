"""Keys and values in fp16 on a CPU: who gets it, and that whoever reads it does."""

import pytest
import torch

from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, make_cache, random_model
from tests.recipes import make_recipe
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.config import ModelConfig
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import choose_kv_dtype
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.server.load.placement import place_kv

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16


def test_auto_is_fp16_beside_rounded_weights() -> None:
    """Exact stays exact; a GPU and other backends keep the model's dtype."""
    assert choose_kv_dtype("auto", "auto", FP32, CPU, "int8") == FP16
    assert choose_kv_dtype("auto", "blocked", FP32, CPU, "int8") == FP16
    assert choose_kv_dtype("auto", "auto", FP32, CPU, "none") == FP32
    assert choose_kv_dtype("auto", "sdpa", FP32, CPU, "int8") == FP32
    assert choose_kv_dtype("auto", "auto", BF16, CPU, "none") == BF16
    assert choose_kv_dtype("auto", "auto", BF16, torch.device("cuda"), "int8") == BF16


def test_asked_for_by_name() -> None:
    assert choose_kv_dtype("float32", "auto", FP32, CPU, "int8") == FP32
    assert choose_kv_dtype("float16", "native", FP32, CPU, "none") == FP16
    assert choose_kv_dtype("float16", "auto", FP16, torch.device("cuda")) == FP16
    for name, attention, dtype in (
        ("float16", "sdpa", FP32),
        ("float16", "auto", BF16),
        ("float32", "auto", BF16),
    ):
        with pytest.raises(ValueError, match=f"'--kv-dtype' {name} needs .* use 'auto'"):
            choose_kv_dtype(name, attention, dtype, CPU)


def test_the_flag_reaches_the_engine() -> None:
    """From the setting over the recipe to the choice."""
    where = Placement(FP32, CPU, "int8")
    for asked, given in (("auto", FP16), ("float32", FP32), ("float16", FP16)):
        assert place_kv(make_recipe(kv_dtype=asked), where) == given


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("is_native", [False, True])
def test_logits_are_close(
    config: ModelConfig, is_native: bool, request: pytest.FixtureRequest
) -> None:
    """With our kernels and without, fused cache writes and plain ones: fp16's error and no more."""
    native: Library | None = request.getfixturevalue("native") if is_native else None
    backend: AttentionBackend = NativeAttention(native) if native else BlockedAttention()
    model = random_model(config, backend, native=native)
    steps = [[Row([5, 17, 3, 80, 2], 0, [3, 9])], [Row([8], 5, [3, 9]), Row([6, 7], 0, [4])]]
    caches = [make_cache(config), KVCache(config, 16, 4, FP16, CPU)]
    for rows in steps:
        batch = make_batch(rows, 4, "all")
        wide, half = (model(batch, cache) for cache in caches)
        assert not torch.equal(wide, half)
        torch.testing.assert_close(half, wide, atol=5e-3, rtol=5e-3)
