"""What speculation is worth with the default model on this machine: off and on, in turns.

    python -m tests.bench.engine.bench_speculation [--rounds 3] [--threads 2] [--draft-tokens 15]
                                             [--max-tokens 128] [--only chat] [--quantize auto]
                                             [--cpu-time]

One process and one model; each prompt is answered without and then with speculation, and the ratio
of the two times is taken, so that a slow minute of a shared machine weighs on both alike. A
scenario's figure is the median of its ratios, and the ratio of its sums beside it. Times are whole
answers, prompt and all; the prefix cache is off. Where other programs run, `--threads 1 --cpu-time`
counts this process's own time instead of the clock's. First comes the price of verification: the
time of a step by its number of rows. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from tests.bench.engine.prompts_speculation import CHAT, COPY
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.server.load.load_engine import load_model
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.load.placement import load_native
from thirdeye.server.settings.engine_settings import KernelSettings
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.resolve import resolve_model

BLOCK_SIZE, CONTEXT, MAX_BATCH = 16, 512, 8
CPU = torch.device("cpu")
Answers = dict[str, list[int]]


class Bench:
    """One model, one KV cache, and engines over it that never run at the same time."""

    def __init__(
        self, path: Path, num_draft_tokens: int, quantize: str, clock: Callable[[], float]
    ) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(path)
        library = load_native(native_library(KernelSettings(), "cpu"), CPU, torch.float32)
        where = Placement(torch.float32, CPU, native=library)
        where = replace(where, quantize=choose_quantization(quantize, where))
        self.model: Transformer = load_model(self.checkpoint, "auto", where, lambda *_: None)
        self.clock = clock
        tokenizer = self.checkpoint.tokenizer()
        assert self.checkpoint.chat_template is not None
        self._template = ChatTemplate(self.checkpoint.chat_template, tokenizer)
        self._num_blocks = MAX_BATCH * CONTEXT // BLOCK_SIZE
        self.kv_cache = KVCache(
            self.checkpoint.config, self._num_blocks, BLOCK_SIZE, torch.float32, CPU
        )
        self._eos = sorted(tokenizer.eos_token_ids)
        self._num_draft_tokens = num_draft_tokens

    def engine(self, is_on: bool) -> EngineCore:
        config = EngineConfig(
            max_model_len=CONTEXT,
            num_blocks=self._num_blocks,
            block_size=BLOCK_SIZE,
            eos_token_ids=self._eos,
            enable_prefix_caching=False,
            num_draft_tokens=self._num_draft_tokens if is_on else 0,
        )
        return EngineCore(config, ModelRunner(self.model, self.kv_cache, config, CPU))

    def run(self, prompts: Mapping[str, str], sampling: SamplingParams, is_on: bool) -> "Run":
        """Answer prompts together."""
        core = self.engine(is_on)
        for name, text in prompts.items():
            token_ids = self._template.encode([{"role": "user", "content": text}])
            request = Request(request_id=name, prompt_token_ids=token_ids, sampling=sampling)
            core.add(request)
        answers: Answers = {name: [] for name in prompts}
        started = self.clock()
        while core.has_work:
            for output in core.step():
                answers[output.request_id] += output.token_ids
        return Run(self.clock() - started, answers, core)


class Run:
    def __init__(self, seconds: float, answers: Answers, core: EngineCore) -> None:
        stats = core.stats()
        self.seconds, self.answers = seconds, answers
        self.num_drafted = stats.spec_decode_num_draft_tokens_total
        self.num_accepted = stats.spec_decode_num_accepted_tokens_total

    @property
    def num_tokens(self) -> int:
        return sum(len(answer) for answer in self.answers.values())


def compare(
    bench: Bench, groups: Iterable[Mapping[str, str]], sampling: SamplingParams, rounds: int
) -> dict[str, float]:
    """Each group of prompts off and on, in turns that change who goes first."""
    pairs: list[tuple[Run, Run]] = []
    for i in range(rounds):
        for group in groups:
            order = (False, True) if i % 2 == 0 else (True, False)
            runs = {is_on: bench.run(group, sampling, is_on) for is_on in order}
            pairs.append((runs[False], runs[True]))
    offs, ons = zip(*pairs, strict=True)
    ratios = [off.seconds / on.seconds * on.num_tokens / off.num_tokens for off, on in pairs]
    seconds_off, seconds_on = sum(r.seconds for r in offs), sum(r.seconds for r in ons)
    return {
        "ratio": round(statistics.median(ratios), 3),
        "worst_ratio": round(min(ratios), 3),
        "ratio_of_sums": round(seconds_off / seconds_on, 3),
        "tokens_per_second_off": round(sum(r.num_tokens for r in offs) / seconds_off, 1),
        "tokens_per_second_on": round(sum(r.num_tokens for r in ons) / seconds_on, 1),
        "drafted": sum(r.num_drafted for r in ons),
        "accepted": sum(r.num_accepted for r in ons),
        "different_answers": sum(off.answers != on.answers for off, on in pairs),
    }


def step_times(bench: Bench, rounds: int) -> dict[str, float]:
    """Median milliseconds of a step over 200 tokens of past, by number of rows of one sequence."""
    batches = {rows: make_batch(rows, past=200) for rows in (1, 2, 4, 8, 16)}
    times: dict[int, list[float]] = {rows: [] for rows in batches}
    with torch.inference_mode():
        for _ in range(10 * rounds):
            for rows, batch in batches.items():
                started = bench.clock()
                bench.model(batch, bench.kv_cache)
                times[rows].append((bench.clock() - started) * 1000)
    return {str(rows): round(statistics.median(of_one), 1) for rows, of_one in times.items()}


def make_batch(rows: int, past: int) -> ForwardBatch:
    """`rows` tokens of one sequence, all of them asked for logits."""
    positions = torch.arange(past, past + rows)
    return ForwardBatch(
        input_ids=positions + 1000,
        positions=positions,
        slot_mapping=positions,  # blocks 0, 1, 2, ...: a slot is a position
        query_start_loc=torch.tensor([0, rows], dtype=torch.int32),
        seq_lens=torch.tensor([past + rows], dtype=torch.int32),
        block_table=torch.arange(-(-(past + rows) // BLOCK_SIZE), dtype=torch.int32)[None],
        logits_indices=torch.arange(rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--draft-tokens", type=int, default=15)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--quantize", default="auto")
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    bench = Bench(resolve_model(None), args.draft_tokens, args.quantize, clock)
    results: dict[str, dict[str, float]] = {}
    steps = step_times(bench, args.rounds)
    print(f"milliseconds of a step by rows: {steps}", flush=True)
    greedy = SamplingParams(max_tokens=args.max_tokens, temperature=0.0)
    sampled = SamplingParams(max_tokens=args.max_tokens // 2, temperature=1.0, seed=7)
    scenarios = {f"copy, {name}": ([{name: COPY[name]}], greedy) for name in COPY}
    alone = [{name: CHAT[name]} for name in list(CHAT)[:4]]
    scenarios["chat"] = (alone, greedy)
    scenarios["chat, temperature 1"] = (alone, sampled)
    scenarios["chat, batch of 8"] = ([CHAT], sampled)
    chosen = {name: scenario for name, scenario in scenarios.items() if args.only in name}
    for name, (groups, sampling) in chosen.items():
        results[name] = compare(bench, groups, sampling, args.rounds)
        print(f"{name:20} {results[name]}", flush=True)
    summary = {"benchmark": "speculation", "threads": args.threads, "rounds": args.rounds}
    machine = {"machine": platform.machine(), "torch": torch.__version__}
    print(json.dumps({**summary, **machine, "step_ms_by_rows": steps, "scenarios": results}))


if __name__ == "__main__":
    main()
