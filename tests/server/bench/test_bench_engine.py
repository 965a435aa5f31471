"""The engine's benchmark on a CPU: its workload, its floor, and a whole run of a tiny shape."""

import json

import pytest
import torch

from tests.model.tiny import CPU, LLAMA, change
from tests.server.test_cli import thirdeye
from tests.tiny import tiny_llama
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.bench.device import busy_seconds
from thirdeye.server.bench.measure import run
from thirdeye.server.bench.model_shapes import LLAMA3_8B, QWEN3_0_6B, SHAPES
from thirdeye.server.bench.random_model import random_model
from thirdeye.server.bench.report import Plan
from thirdeye.server.bench.workloads import (
    nano_vllm,
    prefill_operations,
    read_shape,
    weight_bytes_per_step,
)

BF16 = torch.bfloat16


def plan(shape: str, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "shape": shape,
        "batches": [1, 3],
        "contexts": [40],
        "steps": 4,
        "workload": 0,
        "device": "cpu",
        "dtype": "float32",
        "attention": "auto",
        "bandwidth": 1e9,
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]  # plain test values


def test_the_workload_is_nano_vllms() -> None:
    """The published sums: another order of draws would measure something else."""
    work = list(nano_vllm(256))
    assert sum(len(prompt) for prompt, _ in work) == 142_827
    assert sum(output for _, output in work) == 133_966


def test_bytes_of_a_step() -> None:
    """The floors that the published figures are shares of."""
    assert weight_bytes_per_step(LLAMA3_8B, BF16) == pytest.approx(15.01e9, rel=1e-3)
    assert weight_bytes_per_step(QWEN3_0_6B, BF16) == pytest.approx(1.19e9, rel=3e-3)
    assert kv_bytes_per_block(LLAMA3_8B, 1, BF16) == 131_072
    assert kv_bytes_per_block(QWEN3_0_6B, 1, BF16) == 114_688


def test_weights_are_random() -> None:
    """Zeros multiply faster than what a model has."""
    model = random_model(LLAMA, "auto", Placement(torch.float32, CPU))
    table = model.embed_tokens.weight
    assert 0.018 < float(table.std()) < 0.022
    assert float(model.final_norm.weight.mean()) == pytest.approx(1, abs=0.05)


def test_run_of_a_checkpoints_shape(tmp_path) -> None:
    """Every cell of the grid, one JSON line last, and shares that follow from times and bytes."""
    tiny_llama(tmp_path)
    *lines, last = run(plan(str(tmp_path)))
    report = json.loads(last)
    assert len(lines) == 2 + 2
    assert [(c["batch"], c["context"]) for c in report["cells"]] == [(1, 40), (3, 40)]
    read = weight_bytes_per_step(read_shape(str(tmp_path)), torch.float32)
    kv = kv_bytes_per_block(read_shape(str(tmp_path)), 1, torch.float32)
    for cell in report["cells"]:
        assert cell["floor_ms"] == pytest.approx((read + cell["batch"] * 40 * kv) / 1e6)
        assert cell["share_of_floor"] == pytest.approx(cell["floor_ms"] / cell["step_ms"])
        assert cell["tokens_per_second"] == pytest.approx(1e3 * cell["batch"] / cell["step_ms"])


def test_run_of_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every output token is computed, end-of-sequence or not; the bandwidth is measured."""
    monkeypatch.setattr(
        "thirdeye.server.bench.engine.nano_vllm", lambda n: [([5] * 9, 7), ([6] * 3, 4)]
    )
    monkeypatch.setitem(SHAPES, "tiny", change(LLAMA, max_position_embeddings=2048))
    few = plan("tiny", workload=2, batches=[], contexts=[], bandwidth=None)
    report = json.loads(list(run(few))[-1])
    assert report["workload"]["output_tokens"] == 11
    assert report["workload"]["prompt_tokens"] == 12
    assert report["is_bandwidth_measured"]
    assert report["bandwidth"] > 0


def test_run_with_prompts_and_rounded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt's rate follows from its operations; the floor is that of the bytes that are kept."""
    monkeypatch.setitem(SHAPES, "tiny", change(LLAMA, max_position_embeddings=2048))
    monkeypatch.setattr("thirdeye.server.bench.device.MATMUL_SIZE", {"cpu": 64})
    asked = plan("tiny", quantize="int8", prefills=[50], batches=[1])
    report = json.loads(list(run(asked))[-1])
    (prompt,) = report["prefills"]
    seconds = prompt["step_ms"] / 1e3
    operations = prefill_operations(LLAMA, 50)
    assert prompt["tokens_per_second"] == pytest.approx(50 / seconds)
    assert prompt["operations_per_second"] == pytest.approx(operations / seconds)
    assert prompt["share_of_matmul"] == pytest.approx(operations / seconds / report["matmul_rate"])
    assert report["quantize"] == "int8"
    assert report["weight_bytes"] < weight_bytes_per_step(LLAMA, torch.float32) / 2
    assert report["cells"][0]["gpu_idle_share"] is None  # of a CPU nothing is said


@pytest.mark.parametrize("graphs", ["off", "on"])
def test_a_prompt_may_fill_the_context(monkeypatch: pytest.MonkeyPatch, graphs: str) -> None:
    """Llama-3-8B has 8,192 positions and the published goal is a prompt of as many: what its last
    token says has none, and a loop that runs ahead must not compute it."""
    monkeypatch.setitem(SHAPES, "tiny", change(LLAMA, max_position_embeddings=64))
    monkeypatch.setattr("thirdeye.server.bench.device.MATMUL_SIZE", {"cpu": 64})
    asked = plan("tiny", prefills=[64], batches=[], cuda_graphs=graphs)
    (prompt,) = json.loads(list(run(asked))[-1])["prefills"]
    assert prompt["tokens"] == 64
    with pytest.raises(ValueError, match="'--prefill' must be at most 64 for this shape, got 65"):
        list(run(plan("tiny", prefills=[65], batches=[])))


def test_a_cpu_is_timed_with_the_kernels_that_serve(native: Library) -> None:
    """The lines say which, and the bytes that they read are counted: a byte a weight, a scale a
    row, and rows that fill up the last 48."""
    *lines, last = run(plan("tiny", quantize="auto", batches=[1]))
    assert "NativeAttention, NativeInt8" in lines[0]
    report = json.loads(last)
    assert (report["quantize"], report["kv_dtype"]) == ("int8", "float16")
    weights = weight_bytes_per_step(SHAPES["tiny"], torch.int8)
    assert weights < report["weight_bytes"] < 1.5 * weights


def test_operations_of_a_prompt() -> None:
    """15.0 G products a token, and 13 % more for attention at 8k: the published figures."""
    whole = prefill_operations(LLAMA3_8B, 8192)
    assert 2 * 6.98e9 * 8192 < whole < 1.2 * 2 * 7.5e9 * 8192
    assert prefill_operations(LLAMA3_8B, 1024) == pytest.approx(14.7e-3 * 989e12, rel=0.06)


def test_busy_time_counts_once_what_runs_at_once() -> None:
    assert busy_seconds([(5e6, 6e6), (0, 2e6), (1e6, 3e6), (1e6, 1.5e6)]) == 4
    assert busy_seconds([]) == 0


def test_every_row_of_the_figures_has_a_command() -> None:
    """The shapes, formats and lengths that the published goals name are options here."""
    help_text = " ".join(thirdeye("bench", "engine", "--help").stdout.split())
    for option in ("--prefill", "--quantize", "--kv-dtype", "--workload", "--cuda-graphs"):
        assert option in help_text
    assert {"llama3-8b", "qwen3-0.6b", "gpt2-xl"} <= set(SHAPES)


def test_a_context_too_long_is_refused(tmp_path) -> None:
    tiny_llama(tmp_path)
    with pytest.raises(ValueError, match="'--context' 300 with '--steps' 4 needs 306 positions"):
        list(run(plan(str(tmp_path), contexts=[300])))


def test_an_unknown_shape_is_named() -> None:
    done = thirdeye("bench", "engine", "--shape", "gpt5")
    assert done.exit_code == 2
    assert "'--shape' must be one of llama3-8b" in done.stderr
