"""Weights as stored beside int8: the linear layers of one step of two shapes, in turns.

    python -m tests.bench.kernels.bench_stored_linear [--shape 0.1B|1.1B] [--formats Q4_0,Q4_K]
        [--isa avx2] [--threads 1] [--rows 1,8,32,512] [--rounds 9] [--layers 4]

Weights are random, each layer has its own, as many as do not fit the processor's caches. A format
and int8 take turns; told are the median of each and the median of their ratios, in processor time
of this process, which other programs disturb less than they do a clock. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from functools import partial

import numpy as np
import torch

from thirdeye.model.declare.parameter import Share
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.linear.native_stored import NativeStored
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.server.load.native_kernels import plan_native
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES, TensorType

SHAPES = {  # (in, out) of a layer's products, and of the head
    "0.1B": (((576, 960), (576, 576), (576, 3072), (1536, 576)), (576, 49152)),
    "1.1B": (((2048, 3072), (2048, 2048), (2048, 16384), (8192, 2048)), (2048, 32000)),
}
MOST_LOGITS = 32
WHERE = Placement(torch.float32, torch.device("cpu"))


def block_type(name: str) -> TensorType:
    return next(kind for kind in TENSOR_TYPES.values() if kind.name == name)


def random_blocks(name: str, rows: int, width: int) -> StoredTensor:
    kind = block_type(name)
    size = rows * width // kind.block_size * kind.block_bytes
    draw = np.random.default_rng(rows)
    blocks = draw.integers(0, 256, size, np.uint8).reshape(-1, kind.block_bytes)
    halves = {"Q6_K": (208,), "Q2_K": (80, 82), "Q3_K": (108,)}.get(name, (0, 2))
    for place in halves if kind.block_bytes not in (18, 22, 34) else (0,):
        blocks[:, place : place + 2] = np.array([0.01], "<f2").view(np.uint8)
    return stored_tensor(memoryview(blocks.tobytes()), kind, (rows, width))


def layer_of(library: Library, format_name: str, shape: tuple[int, int]) -> Linear:
    if format_name == "int8":
        layer = Linear(*shape, False, WHERE, method=NativeInt8(library))
        layer.weight.normal_()
    else:
        layer = Linear(*shape, False, WHERE, method=NativeStored(library))
        rows = slice(0, shape[1])
        layer.take_stored(rows, random_blocks(format_name, shape[1], shape[0]), Share((rows,)))
    layer.finish()
    return layer


def step(layers: list[Linear], inputs: list[torch.Tensor]) -> float:
    """Milliseconds of all threads' processor time."""
    began = time.process_time()
    for layer, x in zip(layers, inputs, strict=True):
        layer(x)
    return 1e3 * (time.process_time() - began)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="1.1B", choices=SHAPES)
    parser.add_argument("--formats", default="Q4_0,Q4_K")
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default="1,8,32,512")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    build = plan_native(args.isa)
    build.run()
    make = partial(layer_of, Library(build.library))
    products, head = SHAPES[args.shape]
    shapes = [*products * args.layers, head]
    int8 = [make("int8", shape) for shape in shapes]
    figures: dict[str, dict[str, list[float]]] = {}
    for name in args.formats.split(","):
        if any(width % block_type(name).block_size for width, _ in shapes):
            print(f"{args.shape} {name}: its layers are no whole blocks")
            continue
        ours, figures[name] = [make(name, shape) for shape in shapes], {}
        for rows in map(int, args.rows.split(",")):
            counts = [rows] * (len(shapes) - 1) + [min(rows, MOST_LOGITS)]
            inputs = [
                torch.randn(count, shape[0]) for count, shape in zip(counts, shapes, strict=True)
            ]
            pairs = [(step(ours, inputs), step(int8, inputs)) for _ in range(args.rounds + 1)][1:]
            mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            figures[name][str(rows)] = [round(each, 3) for each in (mine, theirs, ratio)]
            print(
                f"{build.level.name} {args.shape} {name:6} {rows:4} rows {mine:9.2f} ms, "
                f"int8 {theirs:9.2f} ms, ratio {ratio:.2f}",
                flush=True,
            )
    print(json.dumps({"stored_linear": figures, "shape": args.shape, "isa": build.level.name}))


if __name__ == "__main__":
    main()
