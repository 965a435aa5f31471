"""How many KV blocks fit, and what is refused."""

import pytest
import torch

from thirdeye.server.engine.cache import kv_budget as memory
from thirdeye.server.engine.cache.kv_budget import CPU_DEFAULT, GIB, kv_budget, plan_kv, plan_states

SIZES = {"bytes_per_block": 1000, "block_size": 16, "context": 256}


def test_a_context_nobody_asked_for_shrinks_to_the_memory():
    assert plan_kv(budget=100_000, asked=None, **SIZES) == (100, 256)
    assert plan_kv(budget=5_999, asked=None, **SIZES) == (5, 80)


def test_what_was_asked_for_is_kept_or_refused():
    assert plan_kv(budget=100_000, asked=64, **SIZES) == (100, 64)
    with pytest.raises(ValueError, match=r"'--max-model-len' 81 needs .* raise '--kv-memory'"):
        plan_kv(budget=5_999, asked=81, **SIZES)
    with pytest.raises(ValueError, match="beyond the model's context of 256"):
        plan_kv(budget=100_000, asked=257, **SIZES)


GEMMA_3_4B = {  # 5 of 34 layers see everything; float16, 4 heads of 256 channels
    "bytes_per_block": 5 * 16 * 2 * 4 * 256 * 2,
    "block_size": 16,
    "context": 131_072,
    "windows": (0, *[1024] * 6),
}


def test_layers_with_a_window_take_what_they_see():
    """A text of 32,768 tokens: five layers keep it, and thirty (one is no layer's) 65 blocks."""
    num_blocks = 32_768 // 16 + 6 * 65
    size = num_blocks * GEMMA_3_4B["bytes_per_block"]
    assert round(size / 1e6) == 799  # 4,563 if each of the 34 kept all
    assert plan_kv(budget=size, asked=None, **GEMMA_3_4B) == (num_blocks, 32_768)
    with pytest.raises(ValueError, match=r"'--max-model-len' 32785 needs 0.74 GiB"):
        plan_kv(budget=size, asked=32_785, **GEMMA_3_4B)


def test_a_chunk_is_kept_besides():
    """Of 256 tokens that are computed at once: 16 blocks more in each of six groups."""
    size = (32_768 // 16 + 6 * (65 + 16)) * GEMMA_3_4B["bytes_per_block"]
    assert round(size / 1e6) == 830
    assert plan_kv(budget=size, asked=None, num_ahead=256, **GEMMA_3_4B)[1] == 32_768


def test_without_layers_that_see_all_any_text_fits():
    sizes = SIZES | {"windows": (40,)}
    assert plan_kv(budget=4_000, asked=None, **sizes) == (4, 256)
    assert plan_kv(budget=3_000, asked=None, **sizes) == (3, 48)


def test_no_room_for_one_block():
    with pytest.raises(ValueError, match="'--kv-memory'"):
        plan_kv(budget=999, asked=None, **SIZES)


def test_the_operator_decides_the_budget():
    cpu = torch.device("cpu")
    assert kv_budget(cpu, 12345) == 12345
    assert 0 < kv_budget(cpu, None) <= CPU_DEFAULT


def test_more_than_the_machine_has_is_refused():
    """It would end in numpy's MemoryError, after the weights were loaded."""
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match="'--kv-memory' must be at most"):
        kv_budget(cpu, 1 << 60)
    assert kv_budget(torch.device("cuda"), 1 << 60) == 1 << 60  # a trial step tells there


def test_half_the_bytes_get_half_the_memory():
    """The default holds as many tokens in fp16 as in fp32."""
    cpu = torch.device("cpu")
    assert 0 < kv_budget(cpu, None, dtype=torch.float16) <= CPU_DEFAULT // 2
    assert kv_budget(cpu, 12345, dtype=torch.float16) == 12345


def test_a_large_model_gets_room_for_one_long_chat(monkeypatch: pytest.MonkeyPatch):
    """Half a gibibyte is 1,000 tokens of some; but never more than half of what is free."""
    cpu, token = torch.device("cpu"), 1 << 20
    monkeypatch.setattr(memory, "free_memory", lambda: 16 * GIB)
    assert kv_budget(cpu, None, bytes_per_token=1) == CPU_DEFAULT
    assert kv_budget(cpu, None, bytes_per_token=token) == 4 * GIB
    monkeypatch.setattr(memory, "free_memory", lambda: 6 * GIB)
    assert kv_budget(cpu, None, bytes_per_token=token) == 3 * GIB
    assert kv_budget(cpu, 12345, bytes_per_token=token) == 12345
    assert kv_budget(cpu, None, bytes_per_state=token) == CPU_DEFAULT
    assert kv_budget(cpu, None, bytes_per_state=80 * token) == 3 * GIB  # not 3.75


def test_states_have_half_of_the_budget_at_most() -> None:
    assert plan_states(budget=1000, bytes_per_state=0, max_num_seqs=64) == 0
    assert plan_states(budget=1000, bytes_per_state=10, max_num_seqs=64) == 50
    assert plan_states(budget=10_000, bytes_per_state=10, max_num_seqs=64) == 3 * 64
    with pytest.raises(ValueError, match=r"'--kv-memory': a sequence's state takes .* hold two"):
        plan_states(budget=39, bytes_per_state=10, max_num_seqs=64)
