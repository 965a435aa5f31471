"""Attention of prompts, in C: what part of one core's products of floats it reaches.

    python -m tests.bench.kernels.bench_prompt_attention [--isa avx2] [--rounds 4]

The core's peak is a loop of nothing but fused multiplications and additions in registers, of the
same instruction set. Attention counts two of them for each channel of each pair of a query and a
key that it sees: work on keys that nobody sees counts as loss, as does the exponential. Processor
time of one thread, the least of all calls, keys and values in fp16 and in random blocks; the peak
takes turns with what is measured. One line a case, and one JSON line last.
"""

import argparse
import ctypes
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tests.bench.kernels.bench_attention import BLOCK_SIZE, CPU, scattered
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.native.build import FLAGS, SOURCES, Build, plan_build
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.server.bench.model_shapes import SMOLLM2_135M
from thirdeye.weights.paths import kernels_directory

HEADS = ((9, 3, 64), (32, 4, 64), (32, 8, 128))  # of queries, of keys, channels of each
SPANS = ((0, 256), (0, 512), (0, 1024), (0, 2048), (1024, 256))  # past and new tokens
CALLS = 2_000_000_000  # operations of attention, about, between two looks at the peak
TURNS, SUMS = 1_000_000, 24
LANES = 16
PEAK = f"""
#include "simd.h"
enum {{ SUMS = REGISTERS == 32 ? {SUMS} : {SUMS // 4} }}; /* as many as the registers hold */
float peak(long turns) {{
    floats sums[SUMS], x = f_all(0.999f), y = f_all(0.001f);
    for (int i = 0; i < SUMS; i++) sums[i] = f_all((float)i);
    for (long turn = 0; turn < turns * {SUMS} / SUMS; turn++)
_Pragma("GCC unroll {SUMS}")
        for (int i = 0; i < SUMS; i++) sums[i] = f_fma(sums[i], x, y);
    for (int i = 1; i < SUMS; i++) sums[0] = f_add(sums[0], sums[i]);
    return f_sum(sums[0]);
}}
"""


def seconds_of(work: Callable[[], object]) -> float:
    """Of processor time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compile_peak(build: Build, folder: Path) -> Callable[[], float]:
    """Gives operations a second, a multiplication and an addition being two."""
    source, made = folder / "peak.c", folder / "peak.so"
    source.write_text(PEAK)
    flags = (*FLAGS, *build.level.flags, f"-I{SOURCES}")
    subprocess.run([build.compiler, *flags, "-o", str(made), str(source)], check=True)
    peak = ctypes.CDLL(str(made)).peak
    peak.argtypes, peak.restype = [ctypes.c_long], ctypes.c_float
    return lambda: 2 * LANES * SUMS * TURNS / seconds_of(lambda: peak(TURNS))


def operations(config: ModelConfig, past: int, new: int) -> int:
    """Of scores, and as many of weighted values."""
    pairs = new * past + new * (new + 1) // 2
    return 4 * pairs * config.num_heads * config.head_dim


def measure(
    library: Library,
    config: ModelConfig,
    span: tuple[int, int],
    peak: Callable[[], float],
    rounds: int,
) -> tuple[float, float]:
    """Operations a second: of attention, and of the peak meanwhile."""
    batch, num_blocks = scattered([span])
    kv_cache = KVCache(config, num_blocks, BLOCK_SIZE, torch.float16, CPU)
    for side in (*kv_cache.keys, *kv_cache.values):
        side.copy_(torch.randn(side.shape))
    backend = NativeAttention(library)
    plan = backend.plan(batch, kv_cache)
    query = torch.randn(span[1], config.num_heads, config.head_dim)
    work = partial(backend.forward, query, *kv_cache.layer(0), plan)
    best, most = float("inf"), 0.0
    for _ in range(rounds + 1):  # the first warms up
        for _ in range(1 + CALLS // operations(config, *span)):  # short ones often, as layers do
            best = min(best, seconds_of(work))
        most = max(most, peak())
    return operations(config, *span) / best, most


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    build = plan_build(kernels_directory(), isa=args.isa)
    build.run()
    library = Library(build.library)
    results = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        peak = compile_peak(build, Path(folder))
        for num_heads, num_kv_heads, head_dim in HEADS:
            config = replace(
                SMOLLM2_135M,
                num_heads=num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                num_hidden_layers=1,
            )
            for past, new in SPANS:
                speed, most = measure(library, config, (past, new), peak, args.rounds)
                results.append(
                    {
                        "heads": [num_heads, num_kv_heads, head_dim],
                        "past": past,
                        "new": new,
                        "gflops": round(speed / 1e9, 1),
                        "peak_gflops": round(most / 1e9, 1),
                        "share": round(speed / most, 3),
                    }
                )
                print(" ".join(f"{key} {value}" for key, value in results[-1].items()), flush=True)
    print(json.dumps({"isa": build.level.name, "results": results}))


if __name__ == "__main__":
    main()
