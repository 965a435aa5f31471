"""A checkpoint whose layers keep a state, built as the server builds it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.architectures.states.mamba_cases import MAMBA
from tests.engine.toy import make_request, run_all, tokens_of
from tests.recipes import make_recipe
from tests.tiny import VOCAB_SIZE, save, tiny_qwen3_5
from thirdeye.server.load.load_engine import load_engine

BYTES = 3 * 4 * (3 * 128 + 4 * 16 * 16)  # of one state: layers, float32, convolution and matrices
FLAGS = {"device": "cpu", "threads": 1, "quantize": "none"}
SHARED = list(range(3, 60))


def test_states_take_their_part_of_the_memory(tmp_path: Path) -> None:
    """Less is left for keys and values; with little, there are fewer states than may run."""
    tiny_qwen3_5(tmp_path)
    found = {}
    for size in (1 << 22, 1 << 17):
        recipe = make_recipe(tmp_path, [2], kv_memory_bytes=size, max_num_seqs=4, **FLAGS)
        _, info = load_engine(recipe, lambda *_: None)
        found[size] = info.num_states, info.num_blocks
    block = 2 * 16 * 2 * 16 * 4  # keys and values of 16 tokens in the one layer that attends
    states = 12, (1 << 16) // BYTES
    assert states[1] < 4 < states[0]
    assert found == {
        size: (n, (size - n * BYTES) // block) for size, n in zip(found, states, strict=True)
    }


def test_launched_a_step_ahead_they_say_the_same(tmp_path: Path) -> None:
    """And the second time it is found as well; a state more is kept, as scrap."""
    tiny_qwen3_5(tmp_path)
    said = {}
    for choice in ("off", "on"):
        recipe = make_recipe(
            tmp_path, [2], kv_memory_bytes=1 << 22, cuda_graphs=choice, max_num_seqs=4, **FLAGS
        )
        core, info = load_engine(recipe, lambda *_: None)
        assert info.num_states == 12
        request = make_request("a", SHARED, max_tokens=20, ignore_eos=True)
        first, second = (run_all(core, [request])["a"] for _ in range(2))
        assert [outputs[-1].num_cached_tokens for outputs in (first, second)] == [0, 48]
        said[choice] = tokens_of(first), tokens_of(second)
    assert said["on"] == said["off"]


def test_what_cannot_be(tmp_path: Path) -> None:
    tiny_qwen3_5(tmp_path)
    with pytest.raises(ValueError, match="'--kv-memory': a sequence's state takes"):
        load_engine(make_recipe(tmp_path, [2], kv_memory_bytes=BYTES, **FLAGS), lambda *_: None)


def tiny_mamba(path: Path, name: str) -> None:
    config = MAMBA[name].make().config
    config.vocab_size = VOCAB_SIZE
    torch.manual_seed(0)
    save(AutoModelForCausalLM.from_config(config), path, True)


@pytest.mark.parametrize("name", ["qwen3_5", "granitemoehybrid", "falcon_h1", "nemotron_h"])
def test_the_second_time_it_is_found(tmp_path: Path, name: str) -> None:
    """With the default speculation: the same answer, behind a prefix that is known."""
    if name == "qwen3_5":
        tiny_qwen3_5(tmp_path)
    else:
        tiny_mamba(tmp_path, name)
    recipe = make_recipe(tmp_path, [2], kv_memory_bytes=1 << 22, **FLAGS | {"speculation": "ngram"})
    core, info = load_engine(recipe, lambda *_: None)
    request = make_request("a", SHARED, max_tokens=20, ignore_eos=True)
    first, second = (run_all(core, [request])["a"] for _ in range(2))
    assert tokens_of(first) == tokens_of(second)
    assert [outputs[-1].num_cached_tokens for outputs in (first, second)] == [0, 48]
    assert info.num_states
