"""A layer's few rows on a GPU, in triton's interpreter: which launches they take, and that whole
models of every kind say the same as by the plain parts."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.model.lora.adapters import merged_model, random_factors
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, LLAMA, change, make_cache, random_model
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import Activation, ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.few_rows.products import first_product
from thirdeye.model.linear.linear import Linear
from thirdeye.model.parts.fused import FusedRMSNorm
from thirdeye.model.parts.layers import NoNorm, RMSNorm
from thirdeye.model.placement import Placement

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from triton.runtime.interpreter import GridExecutor

KINDS = {  # changes, launches of norms and of gates in a step of two layers
    "llama": ({}, 1, 0),
    "biases": ({"qkv_bias": True, "attention_output_bias": True, "mlp_bias": True}, 1, 0),
    "norms of queries and keys": ({"qk_norm": True}, 1, 0),
    "norms behind": ({"post_norm": True}, 5, 0),
    "norms behind alone": ({"post_norm": True, "pre_norm": False}, 5, 0),
    "a layer scaled": ({"post_norm": True, "layer_scale": True}, 5, 0),
    "branches scaled": ({"residual_scale": 0.5}, 1, 0),
    "another gate": ({"activation": Activation.GELU_TANH}, 1, 0),
    "experts": ({"experts": ExpertsSpec(4, 2, 32)}, 3, 2),
    "in parallel": ({"is_parallel": True}, 5, 2),
    "attention with a gate": ({"attention_gate": True}, 3, 0),
}
FEW = "few_rows_matmul_kernel"


def step(config: ModelConfig, num_rows: int, is_fused: bool) -> torch.Tensor:
    """Logits of single tokens."""
    backend = TritonAttention(num_multiprocessors=8) if is_fused else None
    model = random_model(config, backend, is_fused=is_fused)
    rows = [Row([5 + i], 0, [i]) for i in range(num_rows)]
    return model(make_batch(rows, 4, "all"), make_cache(config))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Launches by kernel."""
    found: Counter[str] = Counter()
    run = GridExecutor.__call__

    def count(self: GridExecutor, *arguments: Any, **options: Any) -> None:
        found[self.fn.__name__] += 1
        run(self, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", count)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_few_rows_in_few_launches(name: str, counted: Counter[str]) -> None:
    """Norms and gates are in the products' launches where a layer lets them be; all of it is what
    the plain parts make."""
    changes, norms, gates = KINDS[name]
    config = change(LLAMA, **changes)
    logits = step(config, 2, is_fused=True)
    assert (counted["rms_norm_kernel"], counted["gated_mul_kernel"]) == (norms, gates), counted
    torch.testing.assert_close(logits, step(config, 2, is_fused=False), atol=1e-4, rtol=1e-4)


def test_a_step_with_an_adapter() -> None:
    """What it adds is added, in few rows too; a step without one takes the fewer launches."""
    factors = random_factors(LLAMA, 1)
    backend = TritonAttention(num_multiprocessors=8)
    model = random_model(LLAMA, backend, is_fused=True, max_adapters=1)
    assert model.adapters is not None
    model.adapters.load(7, factors)
    batch = make_batch([Row([5], 0, [0])], 4, "all")
    adapted = replace(batch, adapter_slots=torch.tensor([0], dtype=torch.int32))
    for step_of, twin in ((adapted, merged_model(LLAMA, factors)), (batch, random_model(LLAMA))):
        ours, theirs = model(step_of, make_cache(LLAMA)), twin(batch, make_cache(LLAMA))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_more_rows_are_the_librarys(counted: Counter[str]) -> None:
    step(LLAMA, FEW_ROWS, is_fused=True)
    assert counted[FEW] == 2 * 4 + 1
    counted.clear()
    step(LLAMA, FEW_ROWS + 1, is_fused=True)
    assert counted[FEW] == 0
    assert counted["gated_mul_kernel"] == 2


def test_half_precision_keeps_its_norm_apart() -> None:
    """A row that is not yet scaled, times its gain, may be more than float16 holds."""
    for dtype, is_one in ((torch.float16, False), (torch.bfloat16, True), (torch.float32, True)):
        where = Placement(dtype, CPU, is_fused=True)
        layer = Linear(8, 4, False, where)
        assert (first_product(FusedRMSNorm(8, 1e-5, where), layer, where) is not None) == is_one
        assert first_product(NoNorm(), layer, where) is not None
        assert first_product(RMSNorm(8, 1e-5, where), layer, where) is None
