"""How much memory loading takes at its peak, told by the kernel: run in a process of its own.

python -m tests.weights.streaming.measure_peak CHECKPOINT ...

Prints JSON, in bytes and for each: what was resident when an empty model was there, and the most
that was until it was full. The kernel keeps the maximum itself, so that no sampling can miss it.
"""

import json
import sys
from pathlib import Path

import torch

from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.transformer import Transformer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.load import load_weights

CPU = torch.device("cpu")


def resident(field: str) -> int:
    """VmRSS: now; VmHWM: the most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure(path: Path) -> dict[str, int]:
    checkpoint = open_checkpoint(path)
    model = Transformer(checkpoint.config, BlockedAttention(), dtype=torch.float32, device=CPU)
    loader = ModelLoader(model)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    with torch.inference_mode():
        load_weights(checkpoint, loader)
        loader.finish()
    return {"before": before, "peak": resident("VmHWM")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = []
    for path in map(Path, sys.argv[1:]):
        measure(path)  # what is made once: imports, thread pools, tables
        found.append(measure(path))
    print(json.dumps(found))
