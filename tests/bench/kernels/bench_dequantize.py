"""How quickly stored blocks become floats, on one core, for every type.

    python -m tests.bench.kernels.bench_dequantize [--megabytes 32]

Prints a line a type (gigabytes of stored blocks, and 10^9 weights, a second of processor time; the
best of five) and one JSON line last. Types that the compiled kernels know are measured there too:
"Q4_K in C" into memory that the system gives and clears for it, "in place" into memory that is
there, "kept" as blocks in the order in which layers read them, which is how they are loaded by
default. A copy of the floats stands beside them as the machine's own measure.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from thirdeye.model.loading.widen import KINDS, choose_widen
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import pack_blocks
from thirdeye.server.load.native_kernels import plan_native
from thirdeye.weights.formats.gguf.dequantize import dequantize, stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES, TensorType

ROUNDS = 5
WIDTH = 2048  # of a row


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


def measure_native(
    kind: TensorType, num_weights: int, library: Library
) -> dict[str, dict[str, float]]:
    num_blocks, height = num_weights // kind.block_size, num_weights // WIDTH
    raw = np.random.default_rng(0).integers(0, 100, num_blocks * kind.block_bytes, np.uint8)
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (height, WIDTH))
    widen, there = choose_widen(library), torch.zeros(height, WIDTH)
    ways = {
        "in C": lambda: widen(tensor),
        "in place": lambda: widen.into(tensor, there),
        "kept": lambda: pack_blocks(library, kind.name, [tensor.blocks], WIDTH),
    }
    return {
        f"{kind.name} {name}": speeds(len(raw), num_weights, best_time(way))
        for name, way in ways.items()
    }


def speeds(num_bytes: int, num_weights: int, seconds: float) -> dict[str, float]:
    return {"gb_per_s": num_bytes / seconds / 1e9, "gweights_per_s": num_weights / seconds / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=32, help="Of floats for each type.")
    num_weights = parser.parse_args().megabytes << 18
    floats = np.ones(num_weights, np.float32)
    copy = num_weights / best_time(floats.copy) / 1e9
    torch.set_num_threads(1)
    print(f"{'a copy':13}  {copy * 4:5.2f} GB/s  {copy:5.2f} Gweights/s")
    result = {kind.name: measure(kind, num_weights) for kind in TENSOR_TYPES.values()}
    build = plan_native()
    build.run()
    library = Library(build.library)
    for kind in TENSOR_TYPES.values():
        if kind.name in KINDS:
            result |= measure_native(kind, num_weights, library)
    for name, one in result.items():
        print(f"{name:13}  {one['gb_per_s']:5.2f} GB/s  {one['gweights_per_s']:5.2f} Gweights/s")
    print(json.dumps({"copy_gweights_per_s": copy, **result}))


if __name__ == "__main__":
    main()
