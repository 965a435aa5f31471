"""The project against other servers on the same cores: same prompts, same client, turn by turn.

    make bench-cpu ARGS="--gguf FILE --peer llama=PATH --peer 'ik=PATH -rtr'"

    --gguf FILE            what we serve, and whoever does not say otherwise [the default model]
    --peer NAME=COMMAND    llama.cpp's server or a relative, started by us; `--model OTHER` behind
                           it serves another file, their quickest format for instance
    --peer NAME=URL        any server that speaks OpenAI's API and runs already
    --ours NAME=ARGUMENTS  once more ourselves, with these for `thirdeye serve` ("--isa avx2")
    --no-guesses           leave out our second server, see below
    --logits NAME=FILE     what that peer says of the text that quality is measured on, written by
                           `tests/bench/server/peer_logits.py`

The first of ours guesses nothing, so that each token is computed; what guesses by lookup are worth
is shown apart, by a second one in a column of its own.
All servers are up; rounds alternate between them, so that whatever else the machine does troubles
all alike; medians, and the ratio of each of ours to the better of the peers, figure by figure.
Quality is beside speed: the Kullback-Leibler divergence from fp32 of the file, as `thirdeye eval
kl` has it, of ours as served; of a peer by `--logits`, else of its other file that of its weights
alone, with exact sums; of a peer on the same file it is what its 8-bit activations cost, which
cannot be seen from outside: nan. The last line is JSON. `docs/cpu.md` says how to get llama.cpp's
server and its quickest format.
"""

import argparse
import json
import math
import os
import platform
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.server.bench_serve import round_of
from tests.bench.server.light import ask, with_wire
from tests.bench.server.peer_logits import judge_logits, read_logits
from tests.bench.server.peers import Figures, Peer, Spec, ours, started
from thirdeye.model.native.library import Library
from thirdeye.server.eval.quality import EXACT, TEXT, judge
from thirdeye.server.load.native_kernels import compiled_library
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.resolve import resolve_model

LONG_PROMPT = 512  # tokens, about
GUESSES = "thirdeye with guesses"
KL, TOP1 = "mean KL to fp32", "top-1 as fp32, %"
LESS_IS_BETTER = ("first token", "start", "resident", KL)


def prefill(url: str, number: int) -> float:
    """Tokens per second of a long prompt that no cache knows, from its only token's time."""
    words = " ".join(f"{(number + i) * 7919 % 1000}" for i in range(LONG_PROMPT // 4))
    body = {"model": "smollm2", "prompt": words, "max_tokens": 1, "temperature": 0}
    answer = with_wire(url, lambda wire: ask(wire, body))
    return answer.usage()["prompt_tokens"] / answer.seconds_to_first


def measure(peer: Peer, args: argparse.Namespace, number: int) -> None:
    """One round: every concurrency, then the long prompt."""
    figures: Figures = {}
    for concurrency in args.concurrency:
        requests = max(2, concurrency)
        first = 1000 * number + concurrency
        result = round_of(peer.url, concurrency, requests, args.max_tokens, first)
        figures[f"output tok/s, {concurrency}"] = result["output_tokens_per_second"]
        figures[f"first token p50 ms, {concurrency}"] = result["ttft_ms_p50"]
    figures["prefill tok/s"] = prefill(peer.url, 100 * number + 1)
    peer.rounds.append(figures)
    shown = ", ".join(f"{name}: {value:.1f}" for name, value in figures.items())
    print(f"round {number}, {peer.name}: {shown}", flush=True)


def quality(gguf: Path, peers: Sequence[Peer], logits: dict[str, Path]) -> dict[str, Figures]:
    """Divergence from fp32 of the file, by server, of those that can be told."""
    path = compiled_library()
    native, exact = Library(Path(path)) if path else None, open_checkpoint(gguf)
    found: dict[tuple[Path, str, str], Figures] = {}  # ways to serve, each read once
    figures = {}
    for peer in peers:
        if peer.name in logits:
            said = read_logits(logits[peer.name], exact.config.vocab_size)
            one = judge_logits(exact, peer.name, said)
            figures[peer.name] = {KL: one.mean_kl, TOP1: 100 * one.top1}
            continue
        if not peer.is_ours and peer.file is None:
            continue
        way = (peer.file or gguf, *(peer.ways if peer.is_ours else (EXACT, "auto")))
        if way not in found:
            (one,) = judge(
                *(open_checkpoint(way[0]), TEXT.read_text(), [way[1]]),
                native=native,
                window=512,
                is_compared=True,
                kv_dtype=way[2],
                against=exact,
            )
            found[way] = {KL: one.mean_kl, TOP1: 100 * one.top1}
        figures[peer.name] = found[way]
    return figures


def ratio(figure: str, own: float, others: Sequence[float]) -> float:
    """Ours over the better of the others', nan where there is none."""
    known = [other for other in others if not math.isnan(other)]
    if not known:
        return math.nan
    best = min(known) if figure.startswith(LESS_IS_BETTER) else max(known)
    return own / best if best else math.nan


def table(figures: dict[str, Figures], names_of_ours: Sequence[str]) -> str:
    """Markdown: a row a figure, a column a server, and of each of ours its ratio to the better
    peer."""
    names, others = list(figures), [name for name in figures if name not in names_of_ours]
    titles = [*names, *(f"{name} / the better peer" for name in names_of_ours if others)]
    rows = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for figure in dict.fromkeys(figure for name in names for figure in figures[name]):
        cells = {name: figures[name].get(figure, math.nan) for name in names}
        digits = 4 if figure == KL else 2
        shown = [f"{cell:,.{digits}f}" for cell in cells.values()]
        if others:
            theirs = [cells[name] for name in others]
            shown += [f"{ratio(figure, cells[name], theirs):.2f}" for name in names_of_ours]
        rows.append(f"| {figure} | {' | '.join(shown)} |")
    return "\n".join(rows)


def without_nan(figures: dict[str, Figures]) -> dict[str, Figures]:
    """For JSON, five digits each."""
    return {
        name: {key: float(f"{value:.5g}") for key, value in own.items() if not math.isnan(value)}
        for name, own in figures.items()
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--peer", type=Spec.parse, action="append", default=[])
    parser.add_argument("--ours", type=Spec.parse, action="append", default=[])
    parser.add_argument("--logits", type=Spec.parse, action="append", default=[])
    parser.add_argument(
        "--serve-arg", action="append", default=[], help="for the first two of ours"
    )
    parser.add_argument("--no-guesses", action="store_true")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--no-quality", action="store_true")
    parsed = parser.parse_args(arguments)
    names = [spec.name for spec in (*specs_of_ours(parsed), *parsed.peer)]
    if len(set(names)) < len(names):
        parser.error(f"each server needs a name of its own, got {', '.join(names)}")
    if unknown := {spec.name for spec in parsed.logits} - {spec.name for spec in parsed.peer}:
        parser.error(f"--logits is for a --peer, got {', '.join(sorted(unknown))}")
    return parsed


def specs_of_ours(args: argparse.Namespace) -> list[Spec]:
    """Ours without guesses, with them unless they are not wanted, and as often as asked for."""
    plain = shlex.join(args.serve_arg)
    guessing = [] if args.no_guesses else [Spec(GUESSES, f"{plain} --speculation ngram".strip())]
    return [Spec("thirdeye", plain), *guessing, *args.ours]


def main() -> None:
    args = parse()
    gguf = args.gguf or resolve_model(None)
    slots, threads = max(args.concurrency), len(os.sched_getaffinity(0))
    specs = specs_of_ours(args)
    with ExitStack() as stack:
        peers = [stack.enter_context(ours(spec, gguf)) for spec in specs]
        peers += [stack.enter_context(started(spec, gguf, slots, threads)) for spec in args.peer]
        for number in range(1, args.rounds + 1):
            for peer in peers:
                measure(peer, args, number)
        figures = {peer.name: peer.medians() for peer in peers}
    if not args.no_quality:
        logits = {spec.name: Path(spec.what) for spec in args.logits}
        for name, own in quality(gguf, peers, logits).items():
            figures[name] |= own
    names_of_ours = [spec.name for spec in specs]
    print(table(figures, names_of_ours))
    machine = f"{threads} x {platform.machine()}"
    result = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "file": gguf.name}
    rounds = {"rounds": args.rounds, "max_tokens": args.max_tokens}
    print(json.dumps(result | rounds | {"servers": without_nan(figures)}))


if __name__ == "__main__":
    main()
