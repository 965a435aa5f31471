"""The switch, and what stands behind it: a real checkpoint in an engine that runs ahead."""

import json
from pathlib import Path

import pytest
import torch

from tests.engine.toy import make_request, run_all, tokens_of
from tests.recipes import make_recipe
from tests.server.bench.test_bench_engine import plan
from tests.tiny import tiny_llama
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.server.bench.measure import run
from thirdeye.server.load.load_engine import load_engine
from thirdeye.server.load.overlap import runs_ahead

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_on_a_cpu_only_when_asked_to() -> None:
    backend = BlockedAttention()
    assert [runs_ahead(choice, CPU, backend) for choice in ("auto", "on", "off")] == [
        False, True, False,
    ]  # fmt: skip


def test_on_a_gpu_where_attention_reads_no_lengths() -> None:
    """`auto` gives way, `on` says what stands in its way."""
    assert not runs_ahead("auto", GPU, BlockedAttention())
    assert not runs_ahead("off", GPU, BlockedAttention())
    with pytest.raises(
        ValueError, match=r"'--cuda-graphs' on .* BlockedAttention, .* reads lengths"
    ):
        runs_ahead("on", GPU, BlockedAttention())


def test_with_several_ranks_when_asked_to() -> None:
    """Graphs with sums over ranks in them have not been tried on GPUs, so nobody gets them
    unasked."""
    backend = TritonAttention(num_multiprocessors=2)
    assert [runs_ahead("auto", GPU, backend, num_ranks=n) for n in (1, 2)] == [True, False]
    assert runs_ahead("on", GPU, backend, num_ranks=2)
    assert runs_ahead("on", CPU, BlockedAttention(), num_ranks=2)


def test_a_real_checkpoint_says_the_same(tmp_path: Path) -> None:
    """Built as the server builds it; with guesses, which a step launched ahead verifies late."""
    tiny_llama(tmp_path)
    requests = [
        make_request(str(i), [5 + i, 6, 7], max_tokens=12, temperature=0.5 * i, top_p=0.9, seed=i)
        for i in range(4)
    ]
    said = {}
    for choice in ("off", "on"):
        recipe = make_recipe(
            tmp_path,
            [0],
            device="cpu",
            threads=1,
            quantize="none",
            speculation="ngram",
            kv_memory_bytes=1 << 22,
            cuda_graphs=choice,
        )
        core, info = load_engine(recipe, lambda *_: None)
        assert ("graphs" in info.numerics) == (choice == "on")
        outputs = run_all(core, requests)
        said[choice] = {name: tokens_of(of_one) for name, of_one in outputs.items()}
    assert said["on"] == said["off"]


def test_the_benchmark_runs_ahead(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    *_, last = run(plan(str(tmp_path), cuda_graphs="on", workload=0))
    report = json.loads(last)
    assert report["is_ahead"]
    assert [cell["batch"] for cell in report["cells"]] == [1, 3]
