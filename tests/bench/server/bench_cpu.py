"""The project against other servers on the same cores: same prompts, same client, turn by turn.

    make bench-cpu ARGS="--llama-server PATH --gguf PATH"     llama.cpp's server, started by us
    make bench-cpu ARGS="--peer vllm=http://127.0.0.1:8001"   any OpenAI server that runs already

All servers are up; rounds alternate between them, so that whatever else the machine does troubles
all alike; medians, and ratios to the first peer. Start to first token is taken once a server, in
the order they start. `docs/cpu.md` says how to get llama.cpp's server and its best format. A peer
that is not there is left out, and said so. The last line is JSON.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench.server.bench_serve import ARGS, one, round_of
from tests.bench.server.light import ask, with_wire
from tests.e2e.live import LiveServer

LONG_PROMPT = 512  # tokens, about
Figures = dict[str, float]


@dataclass
class Peer:
    """One server under measurement, and what its rounds gave."""

    name: str
    url: str
    pids: list[int]
    start: float | None = None  # seconds from its command to its first token
    rounds: list[Figures] = field(default_factory=list)

    def medians(self) -> Figures:
        figures = {name: statistics.median(r[name] for r in self.rounds) for name in self.rounds[0]}
        if self.start is not None:
            figures["start to first token, s"] = self.start
        if self.pids:
            figures["resident, GB"] = sum(map(resident, self.pids)) / 1e9
        return {name: round(value, 2) for name, value in figures.items()}


def resident(pid: int) -> int:
    """Bytes of memory of a process that are its own, and its share of what others have too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@contextmanager
def ours(args: list[str]) -> Iterator[Peer]:
    started = time.monotonic()
    server = LiveServer([*ARGS, *args]).start()
    try:
        first_token(server.url)
        start = time.monotonic() - started
        yield Peer("thirdeye", server.url, [server.process.pid, *server.children()], start)
    finally:
        server.stop()


@contextmanager
def llama_server(binary: Path, gguf: Path, slots: int) -> Iterator[Peer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sizes = ["--parallel", str(slots), "--ctx-size", str(slots * 1024)]
    threads = ["--threads", str(os.cpu_count()), "--threads-batch", str(os.cpu_count())]
    command = [str(binary), "--model", str(gguf), "--port", str(port), *sizes, *threads]
    started, url = time.monotonic(), f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_ready(url):
            assert process.poll() is None, f"{binary} ended with {process.returncode}"
            time.sleep(0.02)
        first_token(url)
        yield Peer(f"llama-server {gguf.stem}", url, [process.pid], time.monotonic() - started)
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def first_token(url: str) -> None:
    with_wire(url, lambda wire: one(wire, 0, 1))


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
    print(f"{peer.name}: {shown}", flush=True)


def table(figures: dict[str, Figures]) -> str:
    """Markdown: a row a figure, a column a server, and our ratio to the first peer."""
    names = list(figures)
    rows = [f"| | {' | '.join(names)} | ratio |", "|---" * (len(names) + 2) + "|"]
    for figure, value in figures[names[0]].items():
        cells = [f"{figures[name].get(figure, float('nan')):,.2f}" for name in names]
        other = figures[names[1]].get(figure) if len(names) > 1 else None
        rows.append(f"| {figure} | {' | '.join(cells)} | {value / other if other else 0:.2f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's server")
    parser.add_argument("--gguf", type=Path, help="the model for it, in its best format")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--serve-arg", action="append", default=[], help="for our own server")
    args = parser.parse_args()
    with ExitStack() as stack:
        peers = [stack.enter_context(ours(args.serve_arg))]
        if args.llama_server and args.gguf:
            slots = max(args.concurrency)
            server = llama_server(args.llama_server, args.gguf, slots)
            peers.append(stack.enter_context(server))
        else:
            print("llama-server: left out, give --llama-server and --gguf", flush=True)
        for spec in args.peer:
            name, _, url = spec.partition("=")
            peers.append(Peer(name, url, []))
        for number in range(1, args.rounds + 1):
            for peer in peers:
                measure(peer, args, number)
        figures = {peer.name: peer.medians() for peer in peers}
    print(table(figures))
    machine = f"{os.cpu_count()} x {platform.machine()}"
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": machine, "servers": figures}))


if __name__ == "__main__":
    main()
