"""What one model of a server feels of another: first tokens, gaps and answers of B beside A.

    python -m tests.bench.server.bench_several --model smollm2          # 5 min 30 s

One server has both, with a thread each (`--threads 2`: two each). A client reads streams of B, one
after the other, while A

    quiet      is left alone
    again      is left alone, too: how far two measurements of the same are apart
    one        answers one client: what two engines at once take from each other
    flood      is asked by 128, more than it takes: who is refused comes back after a second
    crash      answers one client, and its engine is killed as soon as it does, over and over
    load       is put to sleep and woken up, over and over
    generator  is left alone, and the same 128 ask a listener that refuses them all: what the flood
               takes of this machine's cores before any server does

in turns, so that a machine that is busy otherwise is so for each, for `--seconds` in each of
`--rounds`. Those other clients are a process of their own; the reader, which has a machine of its
own in life, comes before everybody where that is allowed. Printed are the median and the 99th
percentile (the highest but a hundredth, of so many as `n` says) of B's first tokens, gaps between
tokens and whole answers, in milliseconds, and their ratio to B beside a quiet A; per token of B
what each process computed and how long it had to wait for a core. A ratio says something where it
is further from 1 than that of `again`. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import msgspec

from tests.bench.server.light import Answer, with_wire
from tests.e2e.live import LiveServer
from thirdeye.clients.loadtest.driver.wire import Wire

KINDS = {  # clients
    "quiet": 0,
    "again": 0,
    "one": 1,
    "flood": 128,
    "crash": 0,
    "load": 0,
    "generator": 128,
}
WHAT = ("first_ms", "gap_ms", "answer_ms")
ENGINE = b"thirdeye.server.load.engine_main"


def body(model: str, max_tokens: int, **more: object) -> bytes:
    text = "The history of the city begins with"
    asked = {"model": model, "prompt": text, "max_tokens": max_tokens, "ignore_eos": True}
    return msgspec.json.encode({**asked, "stream": True, **more})


class Stamped(Answer):
    """When each piece came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def body(self, data: bytes, now: float) -> None:
        super().body(data, now)
        self.times += [now] * data.count(b'"choices"')


async def read(wire: Wire, max_tokens: int) -> dict[str, list[float]]:
    """Milliseconds to B's first token, between its tokens, and of the whole answer."""
    answer = Stamped()
    await wire.post("completions", body("B", max_tokens, seed=1), answer)
    answer.whole()
    gaps = [1000 * (b - a) for a, b in zip(answer.times, answer.times[1:], strict=False)]
    whole = 1000 * (answer.ended_at - answer.sent_at)
    return dict(zip(WHAT, ([1000 * answer.seconds_to_first], gaps[1:], [whole]), strict=True))


async def flood(wire: Wire, number: int) -> None:
    async def one() -> None:
        while True:
            answer = Answer()
            await wire.post("completions", body("A", 64), answer)
            try:
                answer.whole()
            except RuntimeError:  # refused
                await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(number)))


def reload(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
        while True:
            client.post("/sleep?model=A")
            client.post("/wake_up?model=A")


def crash(url: str, server: int, of_b: int) -> None:
    asked = json.loads(body("A", 64))
    with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
        while True:
            with client.stream("POST", "/v1/completions", json=asked) as answer:
                is_there = answer.status_code == 200 and next(answer.iter_lines())
                for pid in engines(server) if is_there else []:
                    if pid != of_b:
                        os.kill(pid, signal.SIGKILL)
            client.post("/wake_up?model=A")  # it may have been given up
            time.sleep(0.1)


@contextmanager
def beside(url: str, kind: str, server: int, of_b: int) -> Iterator[None]:
    """The others' work, over and over, in a process of its own."""
    if kind in ("quiet", "again"):
        yield
        return
    with listener() if kind == "generator" else nullcontext(url) as asked:
        command = ["-m", "tests.bench.server.bench_several", "--beside", kind, "--url", asked]
        command += ["--pids", str(server), str(of_b)]
        with subprocess.Popen([sys.executable, *command]) as other:
            try:
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, other.pid, 0)
                time.sleep(1.5)  # it has begun
                yield
            finally:
                other.kill()
    httpx.post(f"{url}/wake_up?model=A", timeout=300, trust_env=False)
    time.sleep(0.3)  # A has seen that its clients are gone


@contextmanager
def listener() -> Iterator[str]:
    """Refuses everybody, at the least that a refusal can cost; its URL."""
    command = [sys.executable, "-m", "tests.trust.live.null_listener"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def spent(pids: dict[str, int]) -> Counter[str]:
    """Milliseconds, of all threads: computed, and waited for a core."""
    found: Counter[str] = Counter()
    for name, pid in pids.items():
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            computed, waited, _ = (int(word) / 1e6 for word in file.read_text().split())
            found[f"{name} computed"] += computed
            found[f"{name} waited"] += waited
    return found


def engines(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = int(file.read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and ENGINE in file.with_name("cmdline").read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


def summary(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    p50, p99 = (round(value, 2) for value in (statistics.median(values), cuts[98]))
    return {"n": len(values), "p50": p50, "p99": p99}


def measure(url: str, server: int, of_b: int, args: argparse.Namespace) -> dict[str, object]:
    rounds: dict[str, list[dict[str, list[float]]]] = {kind: [] for kind in args.kinds}
    used: dict[str, Counter[str]] = {kind: Counter() for kind in args.kinds}
    pids = {"engine": of_b, "api": server}

    async def answers(wire: Wire) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        until = time.monotonic() + args.seconds
        while time.monotonic() < until:
            for what, values in (await read(wire, args.max_tokens)).items():
                found[what] += values
        return found

    for _ in range(args.rounds):
        for kind in args.kinds:
            with beside(url, kind, server, of_b):
                before = spent(pids)
                rounds[kind].append(with_wire(url, answers))
                used[kind] += spent(pids) - before
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in args.kinds:
        tokens = args.max_tokens * sum(len(one["answer_ms"]) for one in rounds[kind])
        found[kind] = {what: summary([v for r in rounds[kind] for v in r[what]]) for what in WHAT}
        found[kind]["ms_a_token"] = {what: round(ms / tokens, 3) for what, ms in used[kind].items()}
    quiet = found[args.kinds[0]]
    ratios = {
        kind: {
            f"{what}_{cut}": round(found[kind][what][cut] / quiet[what][cut], 3)
            for what in WHAT
            for cut in ("p50", "p99")
        }
        for kind in args.kinds[1:]
    }
    for kind in args.kinds:
        print(f"{kind:10s} {found[kind]}")
    return {"b": found, f"ratio_to_{args.kinds[0]}": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=7.0, help="of each kind in each round")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--memory", default="6")
    parser.add_argument("--threads", default="1", help="of each engine")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--beside", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--pids", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.beside == "load":
        reload(args.url)
    if args.beside == "crash":
        crash(args.url, *args.pids)
    if args.beside:
        with_wire(args.url, lambda wire: flood(wire, KINDS[args.beside]))
    options = ["--preload", "B", "--keep-alive", "-1", "--memory", args.memory]
    models = [f"{name}={args.model}" for name in "BA"]
    server = LiveServer([*models, *options, "--threads", args.threads, "--yes"]).start()
    try:
        (of_b,) = engines(server.process.pid)
        with_wire(server.url, lambda wire: read(wire, args.max_tokens))
        httpx.post(f"{server.url}/wake_up?model=A", timeout=300, trust_env=False)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        found = measure(server.url, server.process.pid, of_b, args)
    finally:
        server.stop()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"machine": machine, **found}))


if __name__ == "__main__":
    main()
