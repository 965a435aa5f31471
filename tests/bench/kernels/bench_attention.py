"""One layer's attention of the default model's shape, in C against torch's, on one thread.

    python -m tests.bench.kernels.bench_attention

Milliseconds of CPU time, the least of several turns, so that it can be asked of a busy machine.
Layers take turns: between two uses of one, the others have gone through the caches, as in a server.
`sdpa` gathers each sequence's keys and gives them to `F.scaled_dot_product_attention`.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tests.model.steps import Row, make_batch
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.server.bench.model_shapes import SMOLLM2_135M
from thirdeye.server.load.native_kernels import plan_native

CPU = torch.device("cpu")
BLOCK_SIZE = 16
STEPS = {  # (past, new) of each sequence
    "decode 1, 230 keys": [(229, 1)],
    "decode 32, 230 keys": [(229, 1)] * 32,
    "decode 1, 4096 keys": [(4095, 1)],
    "prompt of 512": [(0, 512)],
}
SPECS = {
    "": TEXTBOOK,
    ", window 512": AttentionSpec(window=512),
    ", soft cap": AttentionSpec(softcap=50.0),
    ", sinks": AttentionSpec(sinks=True),
}


def scattered(lengths: list[tuple[int, int]]) -> tuple[ForwardBatch, int]:
    """A batch whose blocks lie in random order, and how many there are."""
    needs = [-(-(past + new) // BLOCK_SIZE) for past, new in lengths]
    free = torch.randperm(sum(needs)).tolist()
    rows = [
        Row([0] * new, past, [free.pop() for _ in range(need)])
        for (past, new), need in zip(lengths, needs, strict=True)
    ]
    return make_batch(rows, BLOCK_SIZE), sum(needs)


def per_layer(
    backend: AttentionBackend,
    batch: ForwardBatch,
    cache: KVCache,
    turns: int,
    sinks: Tensor | None = None,
) -> float:
    """Milliseconds of CPU time."""
    config = SMOLLM2_135M
    query = torch.randn(len(batch.input_ids), config.num_heads, config.head_dim)
    plan = backend.plan(batch, cache)
    times = []
    for _ in range(turns + 1):  # the first warms up
        start = time.process_time()
        for layer in range(config.num_hidden_layers):
            backend.forward(query, *cache.layer(layer), plan, sinks)
        times.append(time.process_time() - start)
    return min(times[1:]) / config.num_hidden_layers * 1000


def filled(num_blocks: int, dtype: torch.dtype) -> KVCache:
    cache = KVCache(SMOLLM2_135M, num_blocks, BLOCK_SIZE, dtype, CPU)
    for tensors in (cache.keys, cache.values):
        numbers = torch.randn(tensors[0].shape).to(dtype)
        for tensor in tensors:
            tensor.copy_(numbers)
    return cache


def measure(turns: int) -> None:
    build = plan_native()
    build.run()
    library = Library(build.library)
    columns: dict[str, tuple[Callable[[], AttentionBackend], torch.dtype]] = {
        "native fp16": (lambda: NativeAttention(library), torch.float16),
        "native fp32": (lambda: NativeAttention(library), torch.float32),
        "blocked": (BlockedAttention, torch.float32),
        "sdpa": (SdpaAttention, torch.float32),
    }
    print(f"{'ms per layer':<32}" + "".join(f"{name:>14}" for name in columns))
    for name, lengths in STEPS.items():
        batch, num_blocks = scattered(lengths)
        caches = {dtype: filled(num_blocks, dtype) for dtype in (torch.float16, torch.float32)}
        for what, spec in SPECS.items():
            sinks = torch.zeros(SMOLLM2_135M.num_heads) if spec.sinks else None
            cells = []
            for make, dtype in columns.values():
                try:
                    backend = make().for_layers(spec)
                except ValueError:  # it cannot
                    cells.append(math.nan)
                    continue
                cells.append(per_layer(backend, batch, caches[dtype], turns, sinks))
            row = "".join(f"{cell:>14.3f}" for cell in cells)
            print(f"{name + what:<32}" + row, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        measure(turns=2)
