"""The 8-bit linear layers of one step of the default model, alone: milliseconds by rows.

    python -m tests.bench.kernels.bench_int8_linear [--threads N] [--rows 1,8,32] [--rounds N]

Each layer has weights of its own, so they come from memory as they do in a server. The best of the
rounds counts; products a second are those of the whole step. The last line is JSON.
"""

import argparse
import json
import time

import torch

from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.library import Library
from thirdeye.model.placement import Placement
from thirdeye.server.load.native_kernels import plan_native

SHAPES = ((576, 960), (576, 576), (576, 3072), (1536, 576))  # in, out
LAYERS, HEAD, MOST_LOGITS = 30, (576, 49152), 32


def make_layers(library: Library) -> list[Linear]:
    where = Placement(torch.float32, torch.device("cpu"), "int8", native=library)
    layers = [Linear(*shape, False, where) for shape in (*SHAPES * LAYERS, HEAD)]
    for layer in layers:
        layer.weight.normal_()
        layer.finish()
    return layers


def milliseconds(layers: list[Linear], inputs: dict[Linear, torch.Tensor]) -> float:
    began = time.perf_counter()
    for layer in layers:
        layer(inputs[layer])
    return 1e3 * (time.perf_counter() - began)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", default="1,2,4,8,16,32,128,512")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    build = plan_native()
    build.run()
    layers = make_layers(Library(build.library))
    figures = {}
    for rows in map(int, args.rows.split(",")):
        counts = [rows] * (len(layers) - 1) + [min(rows, MOST_LOGITS)]
        inputs = {
            layer: torch.randn(count, layer.kept.in_features)
            for layer, count in zip(layers, counts, strict=True)
        }
        best = min(milliseconds(layers, inputs) for _ in range(args.rounds))
        figures[str(rows)] = round(best, 2)
        print(f"{rows:4} rows {best:8.2f} ms", flush=True)
    print(json.dumps({"int8_linear_ms": figures, "threads": args.threads}))


if __name__ == "__main__":
    main()
