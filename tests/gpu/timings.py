"""How fast attention and quantized products are, each in a captured graph, against its yardstick.

Attention: bytes of keys and values a second against a large copy's, ours and FlashInfer's.
Products: against the library's own in bf16, for the layers of an 8B model. On a CPU the same code
runs at tiny sizes, through the plain backends, to show that it runs.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.gpu.attention import AttentionCase, decode_case
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.linear.fp8 import Fp8
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.linear.unquantized import DenseOnGPU, Unquantized
from thirdeye.model.linear.weight_only import (
    WeightOnlyInt4,
    WeightOnlyInt8,
    num_multiprocessors,
)
from thirdeye.model.placement import Placement, can_fuse
from thirdeye.server.bench.device import now

CACHE_BYTES = 200 << 20  # of layers in turn: more than the second-level cache holds
LAYERS_8B = {
    "qkv": (4096, 6144),
    "output": (4096, 4096),
    "gate_up": (4096, 28672),
    "down": (14336, 4096),
}
OURS_FOR_FEW_ROWS = "dense, ours for few rows"
Row = dict[str, Any]


def graph_seconds(work: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """The median of replays; on a CPU, of plain calls."""
    run = work
    if device.type == "cuda":
        work()  # compiles
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        run = graph.replay
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start = now(device)
        run()
        times.append(now(device) - start)
    return statistics.median(times)


def attention_rows(
    device: torch.device, bandwidth: float, batches: Sequence[int], contexts: Sequence[int]
) -> Iterator[Row]:
    """Decoding, heads of an 8B model: one row for each backend, cache dtype, batch and context."""
    is_full = device.type != "cpu"
    heads = (32, 8, 128) if is_full else (4, 2, 16)
    dtype = torch.bfloat16 if is_full else torch.float32
    backends = dict(attention_backends(device))
    for batch in batches:
        for context in contexts:
            for name, backend in backends.items():
                row = (batch, context, *heads)
                yield time_attention(name, backend, row, dtype, None, device, bandwidth)
            if "triton" in backends:
                row = (batch, context, *heads)
                ours = backends["triton"]
                yield time_attention("triton", ours, row, dtype, FP8, device, bandwidth)


def attention_backends(device: torch.device) -> Iterator[tuple[str, AttentionBackend]]:
    """Those that can run there."""
    for name in ("triton", "flashinfer", "blocked"):
        if name != "blocked" or device.type == "cpu":
            try:
                yield name, choose_attention(name, device)
            except ValueError:
                continue


def time_attention(
    name: str,
    backend: AttentionBackend,
    sizes: tuple[int, int, int, int, int],
    dtype: torch.dtype,
    kv_dtype: torch.dtype | None,
    device: torch.device,
    bandwidth: float,
) -> Row:
    batch, context = sizes[:2]
    probe = 2 * batch * context * sizes[3] * sizes[4] * (kv_dtype or dtype).itemsize
    num_layers = max(1, min(32, CACHE_BYTES // probe)) if device.type != "cpu" else 2
    case = decode_case(*sizes, dtype, device, num_layers=num_layers, kv_dtype=kv_dtype)
    plan = backend.plan(case.batch, case.cache)  # FlashInfer's stays outside of a graph
    seconds = graph_seconds(lambda: attend_layers(backend, case, num_layers, plan), device)
    rate = num_layers * case.kv_bytes / seconds
    return {
        "backend": name,
        "kv_dtype": str(kv_dtype or dtype).removeprefix("torch."),
        "batch": batch,
        "context": context,
        "us_a_layer": 1e6 * seconds / num_layers,
        "bytes_per_second": rate,
        "share_of_copy": rate / bandwidth,
    }


def attend_layers(
    backend: AttentionBackend, case: AttentionCase, num_layers: int, plan: Any
) -> Tensor:
    """All layers by one plan, as in a step."""
    output = case.query
    for layer in range(num_layers):
        output = backend.forward(case.query, *case.cache.layer(layer), plan)
    return output


def product_rows(device: torch.device, rows: Sequence[int]) -> Iterator[Row]:
    """Each format against the library's dense product, over an 8B model's four layers: so many of
    a kind in turn that weights come from memory, as in a step."""
    is_full = device.type != "cpu"
    dtype = torch.bfloat16 if is_full else torch.float32
    where = Placement(dtype, device, is_fused=can_fuse(device))
    shapes = LAYERS_8B if is_full else {"tiny": (64, 96)}
    for layer_name, (in_features, out_features) in shapes.items():
        num_bytes = in_features * out_features * dtype.itemsize
        num_layers = max(2, min(16, CACHE_BYTES // num_bytes)) if is_full else 2
        for num_rows in rows:
            x = torch.randn(num_rows, in_features, device=device).to(dtype)
            base = 0.0
            for name, method in methods(where):
                layers = [
                    make_layer(in_features, out_features, method, where) for _ in range(num_layers)
                ]
                work = partial(multiply_layers, layers, x)
                seconds = graph_seconds(work, device) / num_layers
                base = base or seconds
                yield {
                    "layer": layer_name,
                    "rows": num_rows,
                    "method": name,
                    "us": 1e6 * seconds,
                    "times_dense": base / seconds,
                }


def make_layer(in_features: int, out_features: int, method: Any, where: Placement) -> Linear:
    layer = Linear(in_features, out_features, False, where, method=method)
    layer.weight.normal_(0, 0.02)
    layer.finish()
    return layer


def multiply_layers(layers: Sequence[Linear], x: Tensor) -> list[Tensor]:
    return [layer(x) for layer in layers]


def methods(where: Placement) -> Iterator[tuple[str, Any]]:
    """The dense one first; fp8 in both of its ways, to see from how many rows the other pays."""
    yield "dense", Unquantized()
    if where.is_fused:
        yield OURS_FOR_FEW_ROWS, DenseOnGPU(num_multiprocessors(where.device))
    yield "int8", WeightOnlyInt8(where)
    yield "int4", WeightOnlyInt4(where)
    yield "fp8", Fp8(where)
    yield "fp8, activations too", Fp8(where, few_rows=0)
