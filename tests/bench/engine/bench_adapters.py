"""What adapters cost: tokens per second of eight answers with none, with one, and with one each.

    python -m tests.bench.engine.bench_adapters [--rounds 5] [--threads 2] [--rank 16]
                                          [--steps 32] [--prompt 64] [--quantize auto] [--cpu-time]

One process: the default model as it is served without adapters, and the same with room for eight,
whose random adapters change every linear layer. Each round does all of them in turn, so that a slow
minute of a shared machine weighs on all alike; a figure is the median of the rounds. Decode steps
alone are timed, and apart from them the prompts. Where other programs run, `--threads 1 --cpu-time`
counts this process's own time. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import LoraFactors, adaptable
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.input_batch import NO_SLOTS
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.load.adapters.adapter_files import make_adapter_loader
from thirdeye.server.load.load_engine import load_model
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.load.placement import load_native
from thirdeye.server.settings.engine_settings import KernelSettings
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.resolve import resolve_model

ROWS, CONTEXT = 8, 512
CPU = torch.device("cpu")
CASES: dict[str, tuple[bool, list[int]]] = {  # whether there is room; the adapter of each row
    "without room": (False, [0] * ROWS),
    "0": (True, [0] * ROWS),
    "1": (True, [1] * ROWS),
    "8": (True, list(range(1, ROWS + 1))),
}


def random_factors(config: ModelConfig, rank: int, seed: int) -> list[LoraFactors]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name, part in adaptable(config).items():
        weight = part.own()["weight"]
        for rows in weight.parts or [None]:
            a = torch.randn(rank, part.in_features, generator=generator) * 0.01
            b = torch.randn(weight.shape(rows)[0], rank, generator=generator) * 0.01
            found.append(LoraFactors(name, rows, a, b))
    return found


class Served:
    """A model, with as many adapters as rows if there is to be room for them."""

    def __init__(self, quantize: str, rank: int, *, has_room: bool) -> None:
        checkpoint = open_checkpoint(resolve_model(None))
        library = load_native(native_library(KernelSettings(), "cpu"), CPU, torch.float32)
        where = Placement(torch.float32, CPU, native=library)
        where = replace(where, quantize=choose_quantization(quantize, where))
        room = ROWS if has_room else 0
        self.model: Transformer = load_model(
            checkpoint, "auto", where, lambda *_: None, CONTEXT, room
        )
        self.config = EngineConfig(
            max_model_len=CONTEXT, num_blocks=ROWS * CONTEXT // 16, enable_prefix_caching=False
        )
        self.cache = KVCache(checkpoint.config, self.config.num_blocks, 16, torch.float32, CPU)
        table = self.model.adapters
        for number in range(1, room + 1):
            assert table is not None
            table.load(number, random_factors(checkpoint.config, rank, number))
        self.num_bytes = 0 if table is None else table.num_bytes

    def engine(self) -> EngineCore:
        table = self.model.adapters
        slots = NO_SLOTS if table is None else table.slots
        runner = ModelRunner(self.model, self.cache, self.config, CPU, adapter_slots=slots)
        loader = make_adapter_loader(table, self.model.config, torch.float32, 1 << 40)
        return EngineCore(self.config, runner, adapters=loader)

    def times(
        self, adapters: list[int], num_prompt: int, num_steps: int, clock: Callable[[], float]
    ) -> tuple[float, float]:
        """Seconds of the prompts, and of `num_steps` steps of decoding."""
        engine = self.engine()
        sampling = SamplingParams(max_tokens=num_steps + 4, temperature=0.0, ignore_eos=True)
        for i, adapter in enumerate(adapters):
            prompt = [(7 * i + 13 * j) % 1000 + 5 for j in range(num_prompt)]
            engine.add(
                Request(
                    request_id=str(i), prompt_token_ids=prompt, sampling=sampling, adapter=adapter
                )
            )
        started, begun = clock(), 0
        while begun < len(adapters):
            begun += sum(bool(output.token_ids) for output in engine.step())
        prompts = clock() - started
        engine.step()  # this shape's first, which is recorded
        engine.step()
        started = clock()
        for _ in range(num_steps):
            engine.step()
        return prompts, clock() - started


def main(argv: list[str] | None = None) -> Mapping[str, object]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--quantize", default="auto")
    parser.add_argument("--cpu-time", action="store_true")
    asked = parser.parse_args(argv)
    torch.set_num_threads(asked.threads)
    clock = time.process_time if asked.cpu_time else time.perf_counter
    served = {room: Served(asked.quantize, asked.rank, has_room=room) for room in (False, True)}
    prompts: dict[str, list[float]] = {name: [] for name in CASES}
    decodes: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(asked.rounds + 1):
        for name, (room, adapters) in CASES.items():
            one, other = served[room].times(adapters, asked.prompt, asked.steps, clock)
            if number:  # the first round records tapes
                prompts[name].append(ROWS * asked.prompt / one)
                decodes[name].append(ROWS * asked.steps / other)
    found = {
        "bench": "adapters",
        "decode_tokens_per_second": medians(decodes),
        "prompt_tokens_per_second": medians(prompts),
        "rows": ROWS,
        "rank": asked.rank,
        "adapter_mb": round(served[True].num_bytes / ROWS / 1e6, 2),
        "quantize": asked.quantize,
        "threads": asked.threads,
        "is_cpu_time": asked.cpu_time,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(found))
    return found


def medians(figures: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(each), 1) for name, each in figures.items()}


if __name__ == "__main__":
    main()
