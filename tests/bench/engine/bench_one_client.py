"""Where one client's token goes: products, attention, small operations, Python, and the way out.

    python -m tests.bench.engine.bench_one_client [--model FILE] [--threads 2] [--rounds 5]
                                            [--tokens 100] [--seconds 60] [--cpu-time] [--no-server]

One sequence behind some 200 tokens, no guesses. In this process: a step of the engine by itself, in
it the tape, which ends with the head's product, and the draw; what is left is Python and torch. The
tape is then replayed in parts, products alone, attention alone, all else alone, whose sum differs
from the whole by the barriers between them. Then `thirdeye serve` with the same threads: a token's
time as the client sees it, and the processor time of both processes. Engine and server take turns;
medians of the rounds, microseconds a token. No round but the first begins later than `--seconds`
after the start, so a run takes some two minutes on a busy machine too. `--threads 1 --cpu-time`
counts this process's own time, for a machine with other programs. The last line is JSON: the
medians, each of them as a share of the step, and `by_round`, to be divided by another run's.
"""

import argparse
import ctypes
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.engine.bench_drafts import make_engine
from tests.bench.server.bench_serve import ARGS, one
from tests.bench.server.light import with_wire
from tests.e2e.live import LiveServer
from thirdeye.clients.loadtest.driver.wire import Wire
from thirdeye.model.native.library import Library
from thirdeye.model.native.tapes.tape import Entry, Tape, TapeArgs, TapeSegment
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import Request, SamplingParams
from thirdeye.weights.resolve import resolve_model

PROMPT, REPLAYS = 200, 50
KINDS = {
    "products": ("stored_linear", "int8_linear", "float_linear"),
    "attention": ("paged_attention",),
}
TICK = os.sysconf("SC_CLK_TCK")
Figures = dict[str, float]
Clock = Callable[[], float]


class Watch:
    """Seconds of each thing that a step waits for, by its name, and the tape that was replayed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tape: Tape | None = None
        self.library: Library | None = None
        self._is_timing = False

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Whoever keeps `run` to call it later must be made within."""
        replay, run = Tape.replay, Library.run

        def timed_replay(tape: Tape) -> object:
            self.tape = tape
            return self._timed("tape", lambda: replay(tape))

        def timed_run(library: Library, operation: int, args: object, **how: bool) -> None:
            self.library = library
            name = "draw" if operation == library.operation("sample") else "other kernels"
            if operation in [library.operation(each) for each in KINDS["products"]]:
                name = "head"
            self._timed(name, lambda: run(library, operation, args, **how))  # type: ignore[arg-type]

        Tape.replay, Library.run = timed_replay, timed_run  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Tape.replay, Library.run = replay, run  # type: ignore[method-assign]

    def _timed(self, name: str, work: Callable[[], object]) -> object:
        if self._is_timing:  # the tape's own call
            return work()
        self._is_timing, began = True, self.clock()
        try:
            return work()
        finally:
            self.seconds[name] += self.clock() - began
            self._is_timing = False


def decode(core: EngineCore, watch: Watch, name: str, num_tokens: int) -> Figures:
    """Microseconds a step of each part, over one answer behind its prompt."""
    prompt = [(7919 * place + len(name)) % 40_000 for place in range(PROMPT)]
    sampling = SamplingParams(max_tokens=num_tokens + 1, temperature=0.0, ignore_eos=True)
    core.add(Request(request_id=name, prompt_token_ids=prompt, sampling=sampling))
    while not any(output.token_ids for output in core.step()):
        pass
    watch.seconds.clear()
    began = watch.clock()
    while core.has_work:
        core.step()
    whole = watch.clock() - began
    parts = {name: 1e6 * seconds / num_tokens for name, seconds in watch.seconds.items()}
    rest = 1e6 * whole / num_tokens - sum(parts.values())
    return {"step": 1e6 * whole / num_tokens, **parts, "python and torch": rest}


def in_parts(tape: Tape, library: Library, clock: Clock) -> Figures:
    """Microseconds of a replay's operations of each kind by themselves, and of all."""
    addresses = {library.operation(name): kind for kind in KINDS for name in KINDS[kind]}
    of_kind = defaultdict(list)
    in_c = [call for part in tape.parts if isinstance(part, TapeSegment) for call in part.calls]
    for call in in_c:
        of_kind[addresses.get(call[0], "small operations")].append(call)
    found = {f"{kind}, number": float(len(calls)) for kind, calls in of_kind.items()}
    for kind, calls in [*of_kind.items(), ("whole", in_c)]:
        entries = (Entry * len(calls))(
            *(Entry(op, ctypes.addressof(args), small) for op, args, small in calls)
        )
        args = TapeArgs(ctypes.addressof(entries), len(entries))
        began = clock()
        for _ in range(REPLAYS):
            library.run(library.operation("tape"), args)
        found[kind] = 1e6 * (clock() - began) / REPLAYS
    return found


def served(server: LiveServer, number: int, num_tokens: int) -> Figures:
    """Microseconds a token of one stream: the client's clock, and each process's processor time."""
    engines = server.engines()
    before = seconds_of(engines), seconds_of([server.process.pid])

    async def work(wire: Wire) -> float:
        answer = await one(wire, number, num_tokens)
        assert answer.first_at is not None
        return answer.ended_at - answer.first_at

    seconds = with_wire(server.url, work)
    after = seconds_of(engines), seconds_of([server.process.pid])
    return {
        "served": 1e6 * seconds / (num_tokens - 1),
        "engine's processor time, prompt included": 1e6 * (after[0] - before[0]) / num_tokens,
        "API's processor time, request included": 1e6 * (after[1] - before[1]) / num_tokens,
    }


def seconds_of(pids: list[int]) -> float:
    """Processor time, by ticks of a hundredth of a second."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICK


def measure(args: argparse.Namespace, model: str, watch: Watch) -> list[Figures]:
    ends_at = time.monotonic() + args.seconds
    core, _ = make_engine(model, args.threads, speculation="off")
    for name in ("warm", "again"):
        decode(core, watch, name, 20)
    rounds: list[Figures] = []
    server = None if args.no_server else LiveServer([model, *serve_args(args.threads)]).start()
    try:
        for number in range(args.rounds):
            if rounds and time.monotonic() > ends_at:
                break
            figures = decode(core, watch, f"round {number}", args.tokens)
            assert watch.tape is not None, "no step came from tape"
            assert watch.library is not None
            parts = in_parts(watch.tape, watch.library, watch.clock)
            figures |= {f"tape: {name}": figure for name, figure in parts.items()}
            if server is not None:
                figures |= served(server, number, args.tokens)
            figures["not products"] = (
                figures["step"] - figures["tape: products"] - figures.get("head", 0.0)
            )
            rounds.append(figures)
    finally:
        if server is not None:
            server.stop()
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--no-server", action="store_true")
    args = parser.parse_args()
    model = str(args.model or resolve_model(None))
    watch = Watch(time.process_time if args.cpu_time else time.perf_counter)
    with watch.looking():
        rounds = measure(args, model, watch)
    names = dict.fromkeys(name for r in rounds for name in r)  # a first round may record a tape
    found = {name: statistics.median(r.get(name, 0.0) for r in rounds) for name in names}
    for name, figure in found.items():
        print(f"{name:45} {figure:9.1f}")
    result = {
        "one_client": {name: round(figure, 1) for name, figure in found.items()},
        "of_step": {
            name: round(figure / found["step"], 4)
            for name, figure in found.items()
            if not name.endswith("number")
        },
        "by_round": {name: [round(r.get(name, 0.0), 1) for r in rounds] for name in names},
        "threads": args.threads,
        "cpu_time": args.cpu_time,
    }
    print(json.dumps(result))


def serve_args(threads: int) -> list[str]:
    return ["--threads", str(threads), "--served-model-name", "smollm2", *ARGS]


if __name__ == "__main__":
    main()
