"""The real FlashInfer, where it is installed: its signatures, and its answers against ours."""

import inspect

import pytest
import torch

from tests.gpu.attention import attend_by, decode_case
from tests.model.attention.test_flashinfer import (
    DECODE_INIT,
    DECODE_PLAN,
    PREFILL_INIT,
    PREFILL_PLAN,
)
from thirdeye.model.attention.flashinfer import FlashInferAttention
from thirdeye.model.attention.triton import TritonAttention

pytestmark = pytest.mark.gpu


def test_signatures_are_those_we_wrote_against(gpu: torch.device) -> None:
    flashinfer = pytest.importorskip("flashinfer", reason="flashinfer-python is not installed")
    for kind, init, plan in (
        (flashinfer.BatchDecodeWithPagedKVCacheWrapper, DECODE_INIT, DECODE_PLAN),
        (flashinfer.BatchPrefillWithPagedKVCacheWrapper, PREFILL_INIT, PREFILL_PLAN),
    ):
        assert set(init.split()) <= set(inspect.signature(kind.__init__).parameters)
        assert set(plan.split()) <= set(inspect.signature(kind.plan).parameters)


@pytest.mark.parametrize("num_queries", [1, 33])
def test_same_answers(gpu: torch.device, num_queries: int) -> None:
    pytest.importorskip("flashinfer", reason="flashinfer-python is not installed")
    case = decode_case(5, 700, 32, 8, 128, torch.bfloat16, gpu, num_queries)
    ours = attend_by(TritonAttention(num_multiprocessors=132), case)
    theirs = attend_by(FlashInferAttention(gpu), case)
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
