"""How graphs are captured, on a device that takes note of what it is told."""

import gc
from unittest.mock import MagicMock

import pytest
import torch

from thirdeye.server.engine.run_ahead.cuda_graphs import NUM_WARM_UPS, CudaCapture

DEVICE = torch.device("cuda")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    cuda = MagicMock()
    monkeypatch.setattr(torch, "cuda", cuda)
    return cuda


def test_one_stream_for_all_captures(cuda: MagicMock) -> None:
    """A library's workspace belongs to a stream, for ever: 32 MiB each on an H100."""
    capture = CudaCapture(DEVICE)
    for _ in range(5):
        capture(lambda: None)
    cuda.Stream.assert_called_once_with(DEVICE)
    streams = [call.kwargs["stream"] for call in cuda.graph.call_args_list]
    assert streams == [cuda.Stream.return_value] * 5
    pools = {call.kwargs["pool"] for call in cuda.graph.call_args_list}
    assert pools == {cuda.graph_pool_handle.return_value}


def test_nothing_is_collected_in_a_capture(cuda: MagicMock) -> None:
    """An engine that is gone has graphs too, and refers to itself."""
    collecting: list[bool] = []
    CudaCapture(DEVICE)(lambda: collecting.append(gc.isenabled()))
    assert collecting == [False] * (NUM_WARM_UPS + 1)
    assert gc.isenabled()

    def fails() -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        CudaCapture(DEVICE)(fails)
    assert gc.isenabled()
