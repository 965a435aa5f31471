"""How quickly stored blocks become floats, on one core, for every type.

    python -m tests.bench.kernels.bench_dequantize [--megabytes 32]

Prints a line a type (gigabytes of stored blocks, and 10^9 weights, a second of processor time; the
best of five) and one JSON line last. A copy of the floats stands beside them as the machine's own
measure.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from thirdeye.weights.formats.gguf.dequantize import dequantize
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES, TensorType

ROUNDS = 5


def best_time(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def measure(kind: TensorType, num_weights: int) -> dict[str, float]:
    num_blocks = num_weights // kind.block_size
    shape = (num_blocks, kind.block_bytes)
    raw = np.random.default_rng(0).integers(0, 100, shape, np.uint8)  # no nans
    stored = memoryview(raw.tobytes())
    seconds = best_time(lambda: dequantize(stored, kind, (num_blocks, kind.block_size)))
    return {"gb_per_s": len(stored) / seconds / 1e9, "gweights_per_s": num_weights / seconds / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=32, help="Of floats for each type.")
    num_weights = parser.parse_args().megabytes << 18
    floats = np.ones(num_weights, np.float32)
    copy = num_weights / best_time(floats.copy) / 1e9
    print(f"{'a copy':8}  {copy * 4:5.2f} GB/s  {copy:5.2f} Gweights/s")
    result = {kind.name: measure(kind, num_weights) for kind in TENSOR_TYPES.values()}
    for name, one in result.items():
        print(f"{name:8}  {one['gb_per_s']:5.2f} GB/s  {one['gweights_per_s']:5.2f} Gweights/s")
    print(json.dumps({"copy_gweights_per_s": copy, **result}))


if __name__ == "__main__":
    main()
