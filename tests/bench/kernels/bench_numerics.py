"""What the same answer costs: today's kernels on the CPU against the library's, side by side.

    python -m tests.bench.kernels.bench_numerics [--threads N] [--rounds N] [--cpu-time]

The default model's shape with random weights, whole forward passes: decode at 1, 8 and 32
sequences with 256 tokens behind them, and a prompt of 512. Variants take turns, so that a busy
machine troubles all of them alike; medians. First, row by row, what each operation does to the bits
of a row when its number of rows changes. The last line is the result as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.model.steps import Row, make_batch
from tests.weights.dummy import load_dummy_weights
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.linear.unquantized import Unquantized
from thirdeye.model.parts.activations import gelu_tanh, silu
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.bench.model_shapes import SMOLLM2_135M

Clock = Callable[[], float]

CPU = torch.device("cpu")
PAST, BLOCK_SIZE = 256, 16
CASES = {"decode 1": (1, 1), "decode 8": (8, 1), "decode 32": (32, 1), "prefill 512": (1, 512)}
HEIGHTS = [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 128, 200, 256, 512]


def make_model(attention: AttentionBackend, is_packed: bool) -> Transformer:
    model = Transformer(SMOLLM2_135M, attention, dtype=torch.float32, device=CPU)
    load_dummy_weights(SMOLLM2_135M, 0, model)
    for module in model.modules():
        if isinstance(module, Linear | TiedLinear):
            module.method = RowInvariant(module.weight.dtype) if is_packed else Unquantized()
    model.finish()
    return model


def step(model: Transformer, cache: KVCache, case: str, clock: Clock) -> float:
    """Milliseconds of one forward pass."""
    num_seqs, num_tokens = CASES[case]
    past = PAST if num_tokens == 1 else 0
    width = -(-(past + num_tokens) // BLOCK_SIZE)
    rows = [Row([7] * num_tokens, past, range(i * width, (i + 1) * width)) for i in range(num_seqs)]
    batch = make_batch(rows, BLOCK_SIZE)
    start = clock()
    model(batch, cache)
    return (clock() - start) * 1000


def measure_cost(rounds: int, clock: Clock) -> dict[str, dict[str, float]]:
    models = {
        "library": make_model(SdpaAttention(), False),
        "blocked attention": make_model(BlockedAttention(), False),
        "packed linear": make_model(SdpaAttention(), True),
        "invariant": make_model(BlockedAttention(), True),
    }
    cache = KVCache(SMOLLM2_135M, 32 * (PAST // BLOCK_SIZE + 1), BLOCK_SIZE, torch.float32, CPU)
    result = {}
    for case in CASES:
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(rounds + 1):
            for name, model in models.items():
                elapsed = step(model, cache, case, clock)
                if turn:  # the first turn warms up
                    times[name].append(elapsed)
        result[case] = {name: statistics.median(of_one) for name, of_one in times.items()}
        shown = ", ".join(f"{name} {ms:.1f}" for name, ms in result[case].items())
        ratio = result[case]["invariant"] / result[case]["library"]
        print(f"{case:12} ms: {shown}; invariant / library {ratio:.2f}", flush=True)
    return result


def bands(function: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """Which heights give their last row the bits it has alone: '1 | 2-3 | 4-512'."""
    groups: list[list[int]] = []
    last = None
    for height in HEIGHTS:
        row = function(x[-height:].contiguous())[-1]
        if last is not None and torch.equal(row, last):
            groups[-1].append(height)
        else:
            groups.append([height])
        last = row
    return " | ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)


def measure_rows() -> dict[str, str]:
    """Each row operation of the forward pass and of the sampler, at the model's shapes."""
    operations: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {}
    shapes = [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49152)]
    for in_features, out_features in shapes:
        weight = torch.randn(out_features, in_features) * 0.05
        packed = Linear(in_features, out_features, False, Placement(torch.float32, CPU))
        packed.load_state_dict({"weight": weight})
        packed.finish()
        name = f"{in_features} -> {out_features}"
        operations[f"F.linear {name}"] = (lambda x, w=weight: F.linear(x, w), in_features)
        operations[f"RowInvariant {name}"] = (packed.forward, in_features)
    operations |= {
        "mean of squares": (lambda x: x.square().mean(-1, keepdim=True), 576),
        "sum": (lambda x: x.sum(-1, keepdim=True), 49152),
        "layer_norm": (lambda x: F.layer_norm(x, (576,)), 576),
        "F.silu": (F.silu, 1100),
        "silu": (silu, 1100),
        "F.gelu": (F.gelu, 1100),
        "F.gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), 1100),
        "gelu_tanh": (gelu_tanh, 1100),
        "exp": (torch.exp, 1001),
        "softmax": (lambda x: x.softmax(-1), 49152),
        "log_softmax": (lambda x: x.log_softmax(-1), 49152),
        "cumsum": (lambda x: x.cumsum(-1), 49152),
    }
    result = {}
    for name, (function, width) in operations.items():
        x = torch.randn(HEIGHTS[-1], width, generator=torch.Generator().manual_seed(0))
        result[name] = bands(function, x)
        print(f"{name:32} {result[name]}", flush=True)
    return result


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure_rows()
    clock = time.process_time if options.cpu_time else time.perf_counter
    cost = measure_cost(options.rounds, clock)
    print(json.dumps({"threads": options.threads, "rows": rows, "ms": cost}))


if __name__ == "__main__":
    main()
