"""The trial of a served model: a step of the largest size, and what an operator may ask for."""

import pytest
import torch

from server.config import Settings
from server.engine.memory import GIB
from server.recipe import EngineRecipe
from server.room import find_room, try_step
from tests.engine.test_trial import CountingMemory
from tests.model.tiny import CPU, LLAMA, random_model

RECIPE = EngineRecipe(
    model_path="", eos_token_ids=[], max_num_seqs=3, max_num_batched_tokens=30, block_size=4
)


def usage_of(**changes: object):
    fields = {name: getattr(RECIPE, name) for name in RECIPE.__struct_fields__} | changes
    memory = CountingMemory(total=8 * GIB, allocated=GIB)
    model = random_model(LLAMA)
    seen = []
    model.register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape)))
    usage = try_step(EngineRecipe(**fields), model, torch.float32, CPU, memory)
    return usage, seen


def test_a_trial_with_the_served_model() -> None:
    """Thirty tokens, all scored, by the model's own modules; the operator's share of the rest."""
    usage, seen = usage_of(gpu_memory_utilization=0.5)
    assert seen[0] == (30, LLAMA.vocab_size)
    assert seen[-1] == (3, LLAMA.vocab_size)
    assert usage.kv == 4 * GIB - GIB
    assert usage_of()[0].granted == int(0.9 * 8 * GIB)


def test_a_cache_that_was_asked_for_is_given_or_refused() -> None:
    usage, _ = usage_of(kv_memory_bytes=2 * GIB)
    assert usage.kv == 2 * GIB
    assert usage_of(kv_memory_bytes=7 * GIB)[0].kv == 7 * GIB
    with pytest.raises(ValueError, match=r"'--kv-memory' must be at most 7.00 GiB here, got 7.50"):
        usage_of(kv_memory_bytes=7 * GIB + GIB // 2)


def test_a_cpu_tries_nothing() -> None:
    budget, told = find_room(RECIPE, random_model(LLAMA), torch.float32, CPU)
    assert budget > 0
    assert told == ""


def test_the_share_is_a_setting() -> None:
    assert Settings().gpu_memory_utilization == RECIPE.gpu_memory_utilization == 0.9
    with pytest.raises(ValueError, match="gpu_memory_utilization"):
        Settings(gpu_memory_utilization=1.2)
