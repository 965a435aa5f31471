"""A step of a model with experts beside reading as many bytes: layers of Qwen3-30B-A3B.

    python -m tests.bench.kernels.bench_experts [--format Q4_K] [--layers 4] [--threads 2]
        [--rows 1] [--isa auto] [--steps 40] [--peer LLAMA_BENCH [--mixes Q4_0,Q4_K_M] [--rounds 5]]

Weights are random blocks, each expert has its own memory, and each step's tokens are others, so
that experts change. The ideal is one product of the same format over as many bytes as a step of one
row reads: what a dense model of the active size would take, less its small steps. The two take
turns; told are medians of processor time of all threads, which other programs disturb less than
they do a clock, and of the clock. The last line is JSON.

`--peer`: instead, decode a file of so many such layers beside llama.cpp (`experts_beside.py`).
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable

import torch

from tests.architectures.running import make_cache, step
from tests.bench.kernels.bench_stored_linear import layer_of, random_blocks
from tests.bench.kernels.experts_beside import beside
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.config import Activation, ModelConfig, Norm, RopeConfig
from thirdeye.model.declare.transformer import parameters
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.native.library import Library
from thirdeye.model.parameter_counts import idle_parameters, parameter_counts
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.native_kernels import plan_native

HIDDEN, VOCAB, CONTEXT = 2048, 4096, 64


def shape(num_layers: int) -> ModelConfig:
    """The vocabulary is small: a head costs what it does in a dense model."""
    return ModelConfig(
        architecture="qwen3_moe", vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=6144,
        num_hidden_layers=num_layers, num_heads=32, num_kv_heads=4, head_dim=128,
        max_position_embeddings=CONTEXT, norm=Norm.RMS_NORM, norm_eps=1e-6,
        activation=Activation.SILU, gated_mlp=True, rope=RopeConfig(1e6, 128), qkv_bias=False,
        attention_output_bias=False, mlp_bias=False, tie_word_embeddings=False, qk_norm=True,
        experts=ExpertsSpec(128, 8, 768, is_renormalized=True),
    )  # fmt: skip


def random_model(config: ModelConfig, library: Library, format_name: str) -> Transformer:
    model = Transformer(
        config,
        NativeAttention(library),
        dtype=torch.float32,
        device=torch.device("cpu"),
        quantize="stored",
        native=library,
    )
    loader, declared = ModelLoader(model), parameters(config)
    for name, part in sorted(loader.expected(), key=str):
        size = declared[name].shape(part)
        is_stored = len(size) == 2 and not name.startswith("embed") and ".router." not in name
        if is_stored:
            loader.load(name, part, random_blocks(format_name, *size))
        else:
            loader.load(name, part, torch.randn(size))
    loader.finish()
    return model


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of all threads' processor time, and of the clock."""
    began = time.process_time(), time.perf_counter()
    work()
    return 1e3 * (time.process_time() - began[0]), 1e3 * (time.perf_counter() - began[1])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", default="Q4_K")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peer", help="llama-bench, or a program of its arguments and answer")
    parser.add_argument("--mixes", default="Q4_0,Q4_K_M")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.peer:
        for mix in args.mixes.split(","):
            beside(args.peer, mix, args.layers, args.threads, args.steps, args.rounds)
        return
    torch.set_num_threads(args.threads)
    build = plan_native(args.isa)
    build.run()
    library, config = Library(build.library), shape(args.layers)
    model = random_model(config, library, args.format)
    counts = parameter_counts(config)
    active = counts.total - idle_parameters(config) - counts.embeddings
    dense = layer_of(library, args.format, (HIDDEN, active // HIDDEN))
    cache, lone = make_cache(model), torch.randn(1, HIDDEN)
    draw = random.Random(0)

    def one_step() -> object:
        tokens = [draw.randrange(VOCAB) for _ in range(args.rows)]
        return step(model, cache, tokens, 16)

    for _ in range(3):  # the second is recorded
        one_step(), dense(lone)
    pairs = [(timed(one_step), timed(lambda: dense(lone))) for _ in range(args.steps)]
    ours, ideal = (
        [statistics.median(pair[side][clock] for pair in pairs) for clock in (0, 1)]
        for side in (0, 1)
    )
    ratio = statistics.median(theirs[0] / mine[0] for mine, theirs in pairs)
    is_taped = not model.tape.reason
    print(
        f"{build.level.name} {args.format} {args.layers} layers, {args.rows} rows: a step "
        f"{ours[0]:.2f} ms of processor time ({ours[1]:.2f} by the clock), the ideal of one row "
        f"{ideal[0]:.2f} ({ideal[1]:.2f}), ratio {ratio:.2f}"
    )
    figures = {
        "step_ms": ours,
        "ideal_ms": ideal,
        "ratio": round(ratio, 3),
        "tokens_per_second": round(args.rows / ours[1] * 1e3, 1),
        "active_parameters": active,
        "all_parameters": counts.total,
        "is_taped": is_taped,
    }
    print(json.dumps({"experts": figures, "isa": build.level.name, "format": args.format}))


if __name__ == "__main__":
    main()
