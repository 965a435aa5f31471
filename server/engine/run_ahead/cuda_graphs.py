"""Recording a step once and replaying it: what a GPU does instead of being told each kernel again.

A step of one token is hundreds of small kernels; telling a GPU each one costs more than running it.
A graph is told once. It works on the addresses it was captured with, so the step is a function of
nothing and gives nothing back: it reads and writes tensors that stay where they are. Shapes are
fixed as well, so there is a graph for each bucket of rows.

`rerun` is the twin without a GPU: the same function on the same tensors, once more.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Step = Callable[[], None]
Capture = Callable[[Step], Step]

FINE, COARSE = 8, 16  # between buckets: finer than 8 rows, a matrix product takes as long
NUM_WARM_UPS = 2  # kernels are compiled, and libraries take their memory, before a capture


def rerun(step: Step) -> Step:
    """A "graph" wherever there are none."""
    return step


class CudaCapture:
    """Captures on one GPU, on one stream: a library keeps its workspace for each stream for ever.
    All graphs share their scratch memory: one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's

    def __call__(self, step: Step) -> Step:
        aside = self._stream
        with torch.cuda.device(self._device), no_collection():
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(NUM_WARM_UPS):
                    step()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=aside, capture_error_mode="thread_local"
            ):
                step()
        return graph.replay


def choose_capture(device: torch.device) -> Capture:
    """Graphs on a GPU; elsewhere steps are run again."""
    return CudaCapture(device) if device.type == "cuda" else rerun


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's collector may come upon graphs of an engine that is gone: to destroy one is not
    allowed while another is captured."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def make_buckets(max_num_seqs: int) -> list[int]:
    """Numbers of rows that have a graph: 1, 2, 4, then in steps of 8 and of 16, up to the most."""
    buckets = [1, 2, 4, *range(FINE, 128, FINE), *range(128, max_num_seqs, COARSE)]
    return [*(b for b in buckets if b < max_num_seqs), max_num_seqs]
