"""How quickly stored blocks become floats, on one core, for every type.

    python -m tests.bench.kernels.bench_dequantize [--megabytes 32]

Prints a line a type (gigabytes of stored blocks, and 10^9 weights, a second of processor time; the
best of five) and one JSON line last; types that the compiled kernels know are measured there too,
as "Q4_K in C". A copy of the floats stands beside them as the machine's own measure.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from thirdeye.model.loading.widen import KINDS, Widen, choose_widen
from thirdeye.model.native.library import Library
from thirdeye.server.load.native_kernels import plan_native
from thirdeye.weights.formats.gguf.dequantize import dequantize, stored_tensor
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
    return speeds(len(stored), num_weights, seconds)


def measure_native(kind: TensorType, num_weights: int, widen: Widen) -> dict[str, float]:
    num_blocks = num_weights // kind.block_size
    raw = np.random.default_rng(0).integers(0, 100, num_blocks * kind.block_bytes, np.uint8)
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (1, num_weights))
    return speeds(len(raw), num_weights, best_time(lambda: widen(tensor)))


def speeds(num_bytes: int, num_weights: int, seconds: float) -> dict[str, float]:
    return {"gb_per_s": num_bytes / seconds / 1e9, "gweights_per_s": num_weights / seconds / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=32, help="Of floats for each type.")
    num_weights = parser.parse_args().megabytes << 18
    floats = np.ones(num_weights, np.float32)
    copy = num_weights / best_time(floats.copy) / 1e9
    torch.set_num_threads(1)
    print(f"{'a copy':9}  {copy * 4:5.2f} GB/s  {copy:5.2f} Gweights/s")
    result = {kind.name: measure(kind, num_weights) for kind in TENSOR_TYPES.values()}
    build = plan_native()
    build.run()
    widen = choose_widen(Library(build.library))
    for kind in TENSOR_TYPES.values():
        if kind.name in KINDS:
            result[f"{kind.name} in C"] = measure_native(kind, num_weights, widen)
    for name, one in result.items():
        print(f"{name:9}  {one['gb_per_s']:5.2f} GB/s  {one['gweights_per_s']:5.2f} Gweights/s")
    print(json.dumps({"copy_gweights_per_s": copy, **result}))


if __name__ == "__main__":
    main()
