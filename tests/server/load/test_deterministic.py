"""`--deterministic`: kept by the kernels it chooses, refused together with what would break it."""

import json
from types import SimpleNamespace

import pytest
import torch

from tests.gpu.checks.deterministic import whole_model
from tests.server.bench.test_bench_engine import plan
from tests.tiny import tiny_llama
from thirdeye.model.linear import choose_method as choose_quant
from thirdeye.model.linear.fixed_tile import FixedTile
from thirdeye.model.placement import Placement
from thirdeye.server.bench.measure import run
from thirdeye.server.load import deterministic
from thirdeye.server.load.deterministic import check_deterministic

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that has a GPU and triton, as far as the choices can see."""
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(deterministic, "can_fuse", lambda device: True)
    return monkeypatch


def on_gpu(quantize: str = "none") -> Placement:
    return Placement(BF16, GPU, quantize, is_fused=True, is_deterministic=True)


def test_what_it_chooses(gpu: pytest.MonkeyPatch) -> None:
    """On a GPU the product of fixed tiles; on a CPU what is chosen anyway."""
    pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")
    check_deterministic(on_gpu(), "auto")
    check_deterministic(on_gpu(), "triton")
    assert isinstance(choose_quant.choose_linear(on_gpu()), FixedTile)
    assert isinstance(choose_quant.choose_head(on_gpu()), FixedTile)
    for is_deterministic in (False, True):
        where = Placement(FP32, CPU, is_deterministic=is_deterministic)
        assert type(choose_quant.choose_linear(where)).__name__ == "RowInvariant"


def test_what_it_refuses_on_a_gpu(gpu: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="needs '--attention' triton here, got sdpa: use 'auto'"):
        check_deterministic(on_gpu(), "sdpa")
    with pytest.raises(ValueError, match="does not go with '--quantize' fp8 on a GPU: use"):
        check_deterministic(on_gpu("fp8"), "auto")
    gpu.setattr(deterministic, "can_fuse", lambda device: False)
    with pytest.raises(ValueError, match="needs the package triton"):
        check_deterministic(on_gpu(), "auto")


def test_what_it_refuses_on_a_cpu() -> None:
    check_deterministic(Placement(FP32, CPU, is_deterministic=True), "blocked")
    with pytest.raises(
        ValueError, match="needs '--attention' native or blocked here, got sdpa: use 'auto'"
    ):
        check_deterministic(Placement(FP32, CPU), "sdpa")
    with pytest.raises(ValueError, match=r"float32 or bfloat16, .* got float16"):
        check_deterministic(Placement(FP16, CPU), "auto")


def test_a_whole_model_on_a_cpu() -> None:
    """What `tests/gpu` asks of a GPU holds here with the kernels that are chosen anyway."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        whole_model(CPU)


def test_its_cost_can_be_measured(tmp_path) -> None:
    """`thirdeye bench engine --deterministic` runs, says so, and refuses what the server would."""
    tiny_llama(tmp_path)
    measured = plan(str(tmp_path), is_deterministic=True)
    assert json.loads(list(run(measured))[-1])["is_deterministic"]
    with pytest.raises(ValueError, match="needs '--attention' native or blocked"):
        list(run(plan(str(tmp_path), is_deterministic=True, attention="sdpa")))
