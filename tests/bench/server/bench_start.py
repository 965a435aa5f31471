"""From the command to the first token, stage by stage.

    python -m tests.bench.server.bench_start [--model FILE] [--threads 2] [--rounds 3] [--cold]

Each round starts `thirdeye serve` and asks for one token: seconds by the clock, and the processor
time of both processes, which other programs change little with `--threads 1` (more wait for each
other at barriers, spinning). Then the engine's process
by itself, in one like it: its stages one after the other, by the clock and by processor time.
`--cold` drops the file from the system's cache first: then the disk is measured. Medians; the last
line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.engine.bench_one_client import seconds_of
from tests.bench.server.bench_serve import ARGS
from tests.bench.server.peers import Figures, first_token, resident
from tests.e2e.live import ROOT, LiveServer
from thirdeye.weights.resolve import resolve_model

STAGES = (
    "check_described",
    "empty_model",
    "load_weights",
    "make_kv_cache",
    "warm_up",
)


def served(model: Path, threads: int) -> Figures:
    begun = time.monotonic()
    args = ["--served-model-name", "smollm2", "--threads", str(threads), *ARGS]
    server = LiveServer([str(model), *args]).start()
    try:
        ready = time.monotonic()
        first_token(server.url)
        ended = time.monotonic()
        api, engines = [server.process.pid], server.engines()
        return {
            "ready": ready - begun,
            "start to first token": ended - begun,
            "engine, processor": seconds_of(engines),
            "server, processor": seconds_of(api),
            "resident, MB": sum(map(resident, [*api, *engines])) / 1e6,
        }
    finally:
        server.stop()


def stages(model: Path, threads: int) -> Figures:
    """In a process of its own, as `server/load/engine_main.py` begins."""
    command = [sys.executable, "-c", CHILD, str(model), str(threads)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    figures: Figures = json.loads(told.stdout.splitlines()[-1])
    return figures


CHILD = """
import gc, sys, time
gc.disable()
begun = time.perf_counter(), time.process_time()
from thirdeye.model.loading.import_torch import import_torch
import_torch()
at_torch = time.perf_counter(), time.process_time()
import thirdeye.server.load.load_engine
at_modules = time.perf_counter(), time.process_time()
from tests.bench.server.bench_start import engine_stages
engine_stages(sys.argv[1], int(sys.argv[2]), begun, at_torch, at_modules)
"""


def engine_stages(model: str, threads: int, *imports: tuple[float, float]) -> None:
    """Print them, as a line of JSON."""
    from thirdeye.server.launch.opened_model import open_model
    from thirdeye.server.launch.start_engine import write_recipe
    from thirdeye.server.load import load_engine as loading
    from thirdeye.server.settings.read_settings import read_settings

    found: Figures = {}

    def note(name: str, begun: tuple[float, float], ended: tuple[float, float]) -> None:
        found[name] = ended[0] - begun[0]
        found[f"{name}, processor"] = ended[1] - begun[1]

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = now()
            try:
                return work(*args, **kwargs)
            finally:
                note(name, begun, now())

        return run

    note("import torch", *imports[:2])
    note("import ours", *imports[1:])
    settings = read_settings({"model": model, "device": "cpu", "threads": threads})
    recipe = write_recipe(settings, open_model(settings.checkpoint))
    for name in STAGES:
        setattr(loading, name, timed(name, getattr(loading, name)))
    timed("load_engine", loading.load_engine)(recipe, lambda *_: None)
    print(json.dumps(found))


def drop_from_cache(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def medians(rounds: Sequence[Figures]) -> Figures:
    return {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    model = args.model or resolve_model(None)
    of_server, of_engine = [], []
    for _ in range(args.rounds):
        if args.cold:
            drop_from_cache(model)
        of_server.append(served(model, args.threads))
        of_engine.append(stages(model, args.threads))
    found = {"server": medians(of_server), "engine's stages": medians(of_engine)}
    for part, figures in found.items():
        print(part)
        for name, figure in figures.items():
            print(f"    {name:30} {figure:9.3f}")
    print(json.dumps({"start": found, "file": model.name, "threads": args.threads}))


if __name__ == "__main__":
    main()
