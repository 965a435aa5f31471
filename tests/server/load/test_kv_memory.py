"""The trial of a served model: a step of the largest size, and what an operator may ask for."""

import gc
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
import torch

from tests.gpu.attention import attend_by, decode_case
from tests.model.tiny import CPU, LLAMA, random_model
from tests.recipes import make_recipe
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.server.engine.cache.kv_budget import GIB
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE
from thirdeye.server.engine.run_ahead.device_state import StateLayout
from thirdeye.server.load.kv_memory import find_kv_budget, granted_share, try_step

MORE = 1 << 20  # behind whole GiB: more than a tiny model takes
ROWS = 3
FLAGS = {"max_num_seqs": ROWS, "max_num_batched_tokens": 30}


@dataclass
class LiveTensors:
    """Counts what is really there between two steps: the bytes of all tensors that are held, but
    for those of other tests, which were there before it."""

    total: int
    others: int
    before: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.release()
        self.before = self.allocated

    def release(self) -> None:
        gc.collect()

    def reset_peak(self) -> None:
        """What a step takes for a while is not seen."""

    @property
    def allocated(self) -> int:
        every = gc.get_objects()
        kinds = {kind for kind in set(map(type, every)) if issubclass(kind, torch.Tensor)}
        held = [found for found in every if type(found) in kinds]
        dense = [tensor for tensor in held if tensor.layout == torch.strided]
        storages = [tensor.untyped_storage() for tensor in dense]
        all_bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
        return all_bytes - self.before

    @property
    def peak(self) -> int:
        return self.allocated


def usage_of(**changes: Any):
    memory = LiveTensors(total=8 * GIB + MORE, others=GIB)
    model = random_model(LLAMA)
    seen = []
    model.lm_head.register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape)))
    usage = try_step(make_recipe(**FLAGS, **changes), model, torch.float32, CPU, memory)
    return usage, seen


def test_a_trial_with_the_served_model() -> None:
    """Thirty tokens, all scored, by the model's own modules; the operator's share of the rest."""
    usage, seen = usage_of(gpu_memory_utilization=0.5)
    assert (usage.state, usage.step, usage.captured) == (0, 0, 0)
    assert seen[0] == (30, LLAMA.vocab_size)
    assert seen[-1] == (3, LLAMA.vocab_size)
    assert usage.kv == 3 * GIB + MORE // 2 - usage.weights
    assert usage_of()[0].granted == int(0.9 * (8 * GIB + MORE))


def test_the_decode_loop_is_tried_with_the_block_tables_that_it_will_have() -> None:
    """Its counts, logits and words are there during the trial, and in nobody's way afterwards."""
    usage, seen = usage_of(cuda_graphs="on")
    assert seen[0] == (30, LLAMA.vocab_size)
    assert seen[-1] == (3, LLAMA.vocab_size)
    max_blocks = LLAMA.max_position_embeddings // BLOCK_SIZE
    words = StateLayout(ROWS, max_blocks, 0).num_words
    counts_and_logits = (2 * ROWS + 1) * LLAMA.vocab_size
    assert usage.state == pytest.approx(4 * (words + counts_and_logits), abs=2000)  # small ones
    assert usage_of()[0].weights == usage.weights


def test_guesses_are_rows_of_the_trial() -> None:
    """Where they are verified a step late there is a graph for as many rows as there may be of
    them, and what it reads and writes."""
    asked = {"cuda_graphs": "on", "speculation": "ngram", "max_tokens_with_drafts": 12}
    usage, seen = usage_of(**asked)
    assert seen[0] == (30, LLAMA.vocab_size)
    assert seen[-1] == (12, LLAMA.vocab_size)
    max_blocks = LLAMA.max_position_embeddings // BLOCK_SIZE
    words = StateLayout(ROWS, max_blocks, 0, most_rows_verified=12).num_words
    counts_and_logits = (ROWS + 1 + 12) * LLAMA.vocab_size
    assert usage.state >= 4 * (words + counts_and_logits)
    for less in ({"speculation": "auto"}, {"cuda_graphs": "off"}, {"max_tokens_with_drafts": 2}):
        assert usage_of(**asked | less)[1][-1] == (ROWS, LLAMA.vocab_size)


def test_a_cache_that_was_asked_for_is_given_or_refused() -> None:
    usage, _ = usage_of(kv_memory_bytes=2 * GIB)
    assert usage.kv == 2 * GIB
    assert usage_of(kv_memory_bytes=7 * GIB)[0].kv == 7 * GIB
    with pytest.raises(ValueError, match=r"'--kv-memory' must be at most 7.00 GiB here, got 7.50"):
        usage_of(kv_memory_bytes=7 * GIB + GIB // 2)


def test_a_cpu_tries_nothing() -> None:
    budget, told = find_kv_budget(make_recipe(**FLAGS), random_model(LLAMA), torch.float32, CPU)
    assert budget > 0
    assert told == ""


def test_the_share_is_a_setting() -> None:
    assert granted_share(make_recipe()) == 0.9
    assert granted_share(make_recipe(gpu_memory_utilization=0.5)) == 0.5
    assert granted_share(make_recipe(kv_memory=1)) == 1
    with pytest.raises(ValueError, match="gpu_memory_utilization"):
        make_recipe(gpu_memory_utilization=1.2)


def test_what_lanes_leave_in_memory_is_counted() -> None:
    """The most of all batches: few rows share their keys among many programs, many rows do not."""
    backend = TritonAttention(num_multiprocessors=132)
    sizes = {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    most = backend.most_shared_bytes(**sizes, max_num_seqs=256, max_keys=131072)
    assert most == 32 * 32 * 512 * 130 * 4
    assert backend.most_shared_bytes(**sizes, max_num_seqs=256, max_keys=256) == 0
    sizes["head_dim"] = 16  # so many keys at 128 take seconds to draw
    seen = []
    with patch.object(backend._kernels, "paged_attention_kernel", MagicMock()) as kernel:
        kernel.__getitem__.return_value = lambda *arguments, **_: seen.append(arguments[9:12])
        for rows in (1, 2, 31, 32, 33, 34, 64):
            case = decode_case(rows, 700, **sizes, dtype=torch.float32, device=CPU)
            with patch.object(backend._kernels, "merge_splits_kernel", MagicMock()):
                attend_by(backend, case)
    taken = [sum(share.nbytes for share in shares) for shares in seen]
    assert max(taken) <= backend.most_shared_bytes(**sizes, max_num_seqs=64, max_keys=704)
    assert max(taken) == taken[3] > 0
