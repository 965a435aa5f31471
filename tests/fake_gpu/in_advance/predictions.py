"""What a decode step should take, from its launches as they are counted: the rows of docs/gpu.md.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.in_advance.predictions

    B / (0.92 b) + 0.9 us g + 1.2 us s + 1.2 us p + 8 us l

B: bytes of the weights that are multiplied and of a batch's keys and values, by b bytes a second of
a large copy; g: launches that wait for the one before to end; p: products; s: all other launches;
l: layers that attend. A product that may begin early has between nothing and all of its 1.2 us.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tests.fake_gpu.children.child import Child
from tests.fake_gpu.launches import BATCHES, MODELS
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.bench.workloads import weight_bytes_per_step

CONTEXT = 512
COPIES = {"H100": 3.0e12, "H200": 4.3e12}  # bytes a second
H200 = 4.8e12  # of its memory
OURS, LIBRARY = "few_rows_matmul_kernel", "mm"


@dataclass(frozen=True, slots=True)
class Prediction:
    model: str
    batch: int
    num_bytes: int
    launches: int
    early: int  # products that may begin before the launch before them ends
    late: int  # those that may not
    layers: int

    def seconds(self, bandwidth: float) -> tuple[float, float]:
        """At best and at worst."""
        num_waits = self.late + 1  # and the first launch of a graph
        num_small = self.launches - self.early - self.late
        rest = 0.9e-6 * num_waits + 1.2e-6 * (num_small + self.late) + 8e-6 * self.layers
        best = self.num_bytes / (0.92 * bandwidth) + rest
        return best, best + 1.2e-6 * self.early

    def row(self) -> str:
        plural = "s" if self.batch > 1 else ""
        cells = [f"{self.model}, {self.batch} row{plural}", str(self.launches)]
        cells.append(f"{1e3 * self.num_bytes / H200:.2f}")
        for bandwidth in COPIES.values():
            best, worst = self.seconds(bandwidth)
            floor = self.num_bytes / bandwidth
            times, shares = f"{1e3 * best:.2f}", f"{floor / best:.0%}"
            if worst > best:
                times += f" to {1e3 * worst:.2f}"
                shares = f"{floor / worst:.0%} to {shares}"
            cells.append(f"{times} ({shares})".replace("%", " %"))
        return "| " + " | ".join(cells) + " |"


def predictions(counted: dict[str, dict[str, Any]]) -> Iterator[Prediction]:
    """`counted`: by `tests.fake_gpu.launches`."""
    for model, config in MODELS.items():
        kept = kv_bytes_per_block(config, 1, torch.bfloat16)
        weights = weight_bytes_per_step(config, torch.bfloat16)
        for batch in BATCHES:
            found = counted[f"{model}, batch {batch}"]
            yield Prediction(
                model,
                batch,
                weights + batch * CONTEXT * kept,
                found["launches"],
                found["kernels"].get(OURS, 0),
                found["torch"].get(LIBRARY, 0),
                config.num_hidden_layers,
            )


if __name__ == "__main__":
    child = Child()
    for prediction in predictions(child.run("tests.fake_gpu.launches")):
        print(prediction.row())
    child.close()
