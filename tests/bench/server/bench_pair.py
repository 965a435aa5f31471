"""Two servers side by side in one run: this code against another checkout, or two ways to start.

    python -m tests.bench.server.bench_pair --before ../old/.venv/bin/thirdeye
    python -m tests.bench.server.bench_pair --before-args "--isa avx2"

Each is started so many times in turns, then both stay and take turns, and who begins alternates, so
that what else the machine does meets both. A pair of rounds gives one ratio, after / before, for
tokens per second, time to the first token and the processor time that the server's processes took
per token; the medians over all pairs are printed. Processor time is what a busy machine changes
least. Memory is the proportional set size (Linux) of all of a server's processes at the end. The
last line is JSON.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import time
from pathlib import Path

from tests.bench.server.bench_serve import ARGS, round_of
from tests.e2e.live import COMMAND, LiveServer

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    pids = [pid]
    for one in pids:
        pids.extend(parents.get(one, []))
    return pids


def cpu_seconds(pid: int) -> float:
    """What the processes have used so far, in user mode and in the kernel."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def megabytes(pid: int) -> float:
    """Proportional set size of the processes, in MB."""
    kilobytes = 0
    for one in family(pid):
        rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        kilobytes += int(match[1]) if match else 0
    return kilobytes / 1000


def measured(server: LiveServer, concurrency: int, max_tokens: int, first: int) -> dict[str, float]:
    """One round, with what the server's processes paid for each token."""
    pid = server.process.pid
    before = cpu_seconds(pid)
    requests = max(2, concurrency)
    figures = round_of(server.url, concurrency, requests, max_tokens, first)
    figures["server_cpu_ms_per_token"] = (
        1000 * (cpu_seconds(pid) - before) / (requests * max_tokens)
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", help="the other checkout's command")
    parser.add_argument("--before-args", default="", help="for `serve`, in one string")
    parser.add_argument("--after-args", default="")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()

    def both() -> dict[str, LiveServer]:
        command = (args.before,) if args.before else COMMAND
        return {
            "before": LiveServer(ARGS + shlex.split(args.before_args), command=command),
            "after": LiveServer(ARGS + shlex.split(args.after_args)),
        }

    starts: dict[str, list[float]] = {"before": [], "after": []}
    for _ in range(args.starts):
        for name, server in both().items():
            starts[name].append(server.start().seconds_to_ready)
            server.stop()
    table: dict[str, dict[str, dict[str, float]]] = {}
    servers = both()
    try:
        for server in servers.values():
            server.start()
            round_of(server.url, 1, 2, 8, 0)  # warm up
        first = 1
        for concurrency in args.concurrency:
            rounds: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
            for pair in range(args.pairs + 1):
                for name in ("before", "after") if pair % 2 else ("after", "before"):
                    server = servers[name]
                    figures = measured(server, concurrency, args.max_tokens, first)
                    if pair:  # the first records the steps of this many rows
                        rounds[name].append(figures)
                first += max(2, concurrency)  # the same prompts for both
            table[str(concurrency)] = {
                key: {
                    "before": round(statistics.median(r[key] for r in rounds["before"]), 2),
                    "after": round(statistics.median(r[key] for r in rounds["after"]), 2),
                    "ratio": round(
                        statistics.median(
                            new[key] / old[key]
                            for old, new in zip(rounds["before"], rounds["after"], strict=True)
                        ),
                        3,
                    ),
                }
                for key in ("output_tokens_per_second", "ttft_ms_p50", "server_cpu_ms_per_token")
            }
            print(f"concurrency {concurrency}: {table[str(concurrency)]}", flush=True)
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} x {platform.machine()}",
            "concurrency": table,
            "seconds_to_ready": {n: round(statistics.median(s), 2) for n, s in starts.items() if s},
            "megabytes": {n: round(megabytes(s.process.pid)) for n, s in servers.items()},
        }
    finally:
        for server in servers.values():
            if hasattr(server, "process"):
                server.stop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
