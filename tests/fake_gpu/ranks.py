"""What two ranks capture, over the fake driver: a communicator stands where NCCL's would, and notes
each sum and gather with the graph that it is part of.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.ranks

One line of JSON: of each rank its captures, and what meets in them, in order.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.fake_gpu import driver
from tests.fake_gpu.engine import MULTIPROCESSORS, pretending
from tests.fake_gpu.forms import SMALL_8B
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.run_ahead.device_loop import DeviceLoop, LoopSizes

META = torch.device("meta")
SIZES = LoopSizes(
    num_slots=12,
    max_blocks=512,
    num_eos=1,
    num_groups=1,
    block_size=16,
    scrap_block=99,
    scrap_state=None,
)


@dataclass
class FakeCommunicator:
    """Of one rank, alone: nothing crosses."""

    rank: int
    size: int = 2
    notes: list[list[Any]] = field(default_factory=list)
    graph: int | None = None  # that is captured now
    num_graphs: int = 0

    def add_up(self, x: Tensor) -> Tensor:
        self.notes.append([self.graph, "sum", *x.shape])
        return x

    def gather(self, x: Tensor, dim: int) -> Tensor:
        self.notes.append([self.graph, "gather", *x.shape])
        return torch.cat([x] * self.size, dim=dim)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.graph, self.num_graphs = self.num_graphs, self.num_graphs + 1
        step()
        self.graph = None
        return step


def main() -> None:
    driver.install()
    report = []
    with torch.no_grad(), pretending():
        for rank in range(2):
            communicator = FakeCommunicator(rank)
            report.append({"captured": prepare(communicator), "meets": communicator.notes})
    print(json.dumps(report))


def prepare(communicator: FakeCommunicator) -> list[str]:
    """Capture all graphs of one rank -> which they are."""
    model = Transformer(
        SMALL_8B,
        TritonAttention(num_multiprocessors=MULTIPROCESSORS),
        dtype=torch.bfloat16,
        device=META,
        is_fused=True,
        ranks=communicator,
    )
    model.finish()
    cache = KVCache(rank_config(SMALL_8B, 2), 100, SIZES.block_size, torch.bfloat16, META)
    loop = DeviceLoop(
        lambda batch: model.logits_as_computed(batch, cache),
        SIZES,
        SMALL_8B.vocab_size,
        META,
        communicator.capture,
        model.look_up(),
    )
    loop.prepare()
    return loop.graphs.captured


if __name__ == "__main__":
    main()
