"""Where many clients' time goes, operation by operation: an engine in this process, as served.

    python -m tests.bench.kernels.bench_step_parts [--model FILE] [--clients 1,8,32]
                                            [--prompt 130] [--tokens 96] [--answers 2] [--isa avx2]

So many clients ask at once and again when they are answered, `--answers` times each. Every call of
a kernel is timed by itself, those of a tape one after the other, on one thread, by this process's
processor time: other programs disturb it little. Steps that have tokens of a prompt are told apart
from those that decode alone. What is left of a step is Python and torch, a microsecond of the watch
itself for each call among it. The last line is JSON.
"""

import argparse
import ctypes
import json
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.bench.engine.bench_drafts import make_engine
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.float_linear import FloatLinearArgs
from thirdeye.model.native.products.int8_linear import LinearArgs
from thirdeye.model.native.products.stored_linear import StoredLinearArgs
from thirdeye.model.native.tapes.tape import Tape, TapeSegment
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request, SamplingParams, StepOutput
from thirdeye.weights.resolve import resolve_model

PRODUCTS = (StoredLinearArgs, LinearArgs, FloatLinearArgs)
OPERATIONS = (
    *("stored_linear", "stored_refine", "int8_linear", "float_linear", "paged_attention"),
    *("rms_norm", "rope_kv", "activate", "add", "sample"),
)


class Meter:
    """Seconds and calls of each kind of operation, in steps with a prompt and in those without."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.steps: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._step: list[tuple[str, float]] = []
        self._names: dict[int, str] = {}
        self._library: Library | None = None

    def install(self) -> None:
        """Whoever keeps `run` to call it later must be made afterwards."""
        run, meter = Library.run, self

        def timed(library: Library, operation: int, args: ctypes.Structure, **how: bool) -> None:
            if library._recorder is not None:  # it is not done now
                run(library, operation, args, **how)
                return
            meter._library = library
            began = time.process_time()
            run(library, operation, args, **how)
            spent = time.process_time() - began
            meter._step.append((meter._kind(library, operation, args), spent))

        def replay(tape: Tape) -> object:
            assert meter._library is not None
            for part in tape.parts:
                if isinstance(part, TapeSegment):
                    for operation, args, is_small in part.calls:
                        timed(meter._library, operation, args, is_small=is_small)
                else:
                    part()
            return tape.output

        Library.run = timed  # type: ignore[assignment, method-assign]
        Tape.replay = replay  # type: ignore[assignment, method-assign]

    def _kind(self, library: Library, operation: int, args: ctypes.Structure) -> str:
        if not self._names:
            self._names = {library.operation(name): name for name in OPERATIONS}
        name = self._names.get(operation, "other kernels")
        if isinstance(args, PRODUCTS):
            return f"{name} {args.in_features} -> {args.out_features}"
        return name

    def step(self, core: EngineCore) -> list[StepOutput]:
        self._step.clear()
        before, began = core.stats().step_tokens_total, time.process_time()
        outputs = core.step()
        spent = time.process_time() - began
        num_tokens = core.stats().step_tokens_total - before
        kind = "with prompts" if num_tokens > len(outputs) else "decoding"
        for name, seconds in self._step:
            self.seconds[kind, name] += seconds
            self.calls[kind, name] += 1
        self.seconds[kind, "python and torch"] += spent - sum(seconds for _, seconds in self._step)
        self.steps[kind] += 1
        self.tokens[kind] += num_tokens
        return outputs


def serve(core: EngineCore, meter: Meter, clients: int, args: argparse.Namespace) -> None:
    """Each asks again when it has been answered; their prompts differ from the first token on."""
    asked, left = 0, clients * args.answers
    sampling = SamplingParams(max_tokens=args.tokens, temperature=0.8, seed=1, ignore_eos=True)
    while left:
        while asked < clients * args.answers and asked - (clients * args.answers - left) < clients:
            prompt = [(7919 * place + 104729 * asked + 1) % 30_000 for place in range(args.prompt)]
            name = f"{clients} {asked}"
            core.add(Request(request_id=name, prompt_token_ids=prompt, sampling=sampling))
            asked += 1
        left -= sum(output.finish_reason is not None for output in meter.step(core))


def table(meter: Meter, clients: int, tokens: int) -> dict[str, dict[str, float]]:
    """Milliseconds of all steps of a kind, by operation."""
    whole = sum(meter.seconds.values())
    print(f"{clients} clients: {tokens / whole:.0f} tokens a second of a core, prompts among them")
    found: dict[str, dict[str, float]] = {}
    for kind in meter.steps:
        own = {name: spent for (of, name), spent in meter.seconds.items() if of == kind}
        print(
            f"  {kind}: {meter.steps[kind]} steps of {meter.tokens[kind] / meter.steps[kind]:.0f} "
            f"tokens, {100 * sum(own.values()) / whole:.0f} % of the time, "
            f"{1e3 * sum(own.values()) / meter.steps[kind]:.1f} ms each"
        )
        for name, spent in sorted(own.items(), key=lambda item: -item[1]):
            calls = meter.calls[kind, name]
            print(f"    {name:36} {100 * spent / whole:5.1f} %  {calls:7} calls")
        found[kind] = {name: round(1e3 * spent, 1) for name, spent in own.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--prompt", type=int, default=130)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--answers", type=int, default=2)
    parser.add_argument("--isa", default="auto")
    args = parser.parse_args()
    meter = Meter()
    meter.install()
    flags: dict[str, object] = {"speculation": "off", "isa": args.isa}
    core, _ = make_engine(str(args.model or resolve_model(None)), 1, **flags)
    results = {}
    for clients in map(int, args.clients.split(",")):
        serve(core, meter, clients, args)  # what comes a second time goes on tape
        for counts in (meter.seconds, meter.calls, meter.steps, meter.tokens):
            counts.clear()
        serve(core, meter, clients, args)
        results[clients] = table(meter, clients, clients * args.answers * args.tokens)
    print(json.dumps({"step_parts": results, "model": str(args.model or "default")}))


if __name__ == "__main__":
    main()
