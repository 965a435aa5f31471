"""Build, check and time all of the GPU's path in one run, in under ten minutes.

    python -m tests.gpu.run --out DIR

Needs the runtime's packages alone, no network and no weights. What cannot run (no GPU, no
FlashInfer, no time left) is left out with its reason. In DIR: `report.json` and `gpu.md`, the
tables of docs/gpu.md; the last line printed is one of JSON. On a CPU every part runs at tiny sizes,
which says that the script works and nothing about speed. Exit status 1 if a check failed.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.gpu.tables import DETERMINISTIC_BATCHES, to_markdown

SECONDS = 540.0
EIGHT, SMALL = "llama3-8b", "qwen3-0.6b"


@dataclass
class Report:
    """What has been found out so far."""

    started: float
    seconds: float
    facts: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do it if there is time; what it raises is its own matter."""
        spent = time.monotonic() - self.started
        if spent > self.seconds:
            self.left_out[name] = f"no time left after {spent:.0f} s"
            return
        try:
            self.parts[name] = work()
        except Exception as error:  # one broken part must not take the others with it
            traceback.print_exc()
            self.left_out[name] = f"{type(error).__name__}: {str(error)[:300]}"
        done = time.monotonic() - self.started
        print(f"{done:6.1f} s  {name}  {self.left_out.get(name, '')}", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="begin nothing after so long"
    )
    parser.add_argument("--commit", default=None, help="what is measured; else git is asked")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    is_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if is_cuda else "cpu")
    known = facts(is_cuda) | {"commit": options.commit or checked_out()}
    report = Report(time.monotonic(), options.seconds, known)
    with torch.inference_mode():
        for name, work in parts(device):
            report.part(name, work)
    if not is_cuda:
        report.left_out["checks"] = "this torch build sees no GPU"
    summary = {"benchmark": "gpu", **report.facts, "parts": report.parts}
    summary |= {"left_out": report.left_out, "seconds": time.monotonic() - report.started}
    (options.out / "report.json").write_text(json.dumps(summary, indent=1))
    (options.out / "gpu.md").write_text(to_markdown(summary))
    print(json.dumps(summary))
    return 1 if report.parts.get("checks", {}).get("failed") else 0


def facts(is_cuda: bool) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": "python -m tests.gpu.run",
    }


def checked_out() -> str:
    """The commit this is, if git knows: on a lent machine there may be neither."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def parts(device: torch.device) -> Iterator[tuple[str, Callable[[], Any]]]:
    """In order of worth, should time run out. Imports are inside: a missing package is one part's
    reason, not the end."""
    if device.type == "cuda":
        yield "checks", lambda: run_checks(device)
        yield "attention", lambda: attention(device, (1, 8, 64, 256), (512, 1024, 4096))
        for name, plan in gpu_plans().items():
            yield name, lambda plan=plan: engine(**plan)
            if name == "workload 0.6B":
                yield "served", lambda: serve(device)
        yield "products", lambda: products(device, (1, 8, 16, 64, 256, 2048))
        return
    yield "attention", lambda: attention(device, (1, 2), (40,))
    yield "engine tiny", lambda: engine(shape="tiny", batches=[1, 2], contexts=[40], prefills=[30])
    yield (
        "engine tiny, int8",
        lambda: engine(shape="tiny", batches=[1], contexts=[40], quantize="int8"),
    )
    yield "served tiny", lambda: serve(device)
    yield "products", lambda: products(device, (1, 20))


def gpu_plans() -> dict[str, dict[str, Any]]:
    """What the goals of docs/gpu.md are measured by."""
    plans: dict[str, dict[str, Any]] = {
        "engine 8B": {
            "shape": EIGHT,
            "batches": [1, 8, 64, 256],
            "contexts": [512],
            "prefills": [8192],
        },
        "engine 0.6B": {"shape": SMALL, "batches": [1, 8, 64, 256], "contexts": [512]},
        "workload 0.6B": {"shape": SMALL, "workload": 256},
    }
    for quantize in ("fp8", "int4", "int8"):
        name = f"engine 8B, {quantize}"
        plans[name] = {"shape": EIGHT, "batches": [1], "contexts": [512], "quantize": quantize}
    plans["engine 8B, deterministic"] = {
        "shape": EIGHT,
        "batches": list(DETERMINISTIC_BATCHES),
        "contexts": [512],
        "is_deterministic": True,
    }
    plans["workload 8B"] = {"shape": EIGHT, "workload": 256}
    plans["engine 8B, fp8 KV"] = {
        "shape": EIGHT,
        "batches": [8],
        "contexts": [512, 6144],
        "kv_dtype": "fp8",
    }
    plans["engine 0.6B, eager"] = {
        "shape": SMALL,
        "batches": [1, 64],
        "contexts": [512],
        "cuda_graphs": "off",
    }
    return plans


def run_checks(device: torch.device) -> dict[str, Any]:
    from tests.gpu.checks import checks

    passed, failed = [], {}
    for name, check in checks():
        torch.manual_seed(0)
        try:
            check(device)
            passed.append(name)
        except Exception as error:
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {str(error)[:500]}"
    return {"passed": passed, "failed": failed}


def attention(
    device: torch.device, batches: Sequence[int], contexts: Sequence[int]
) -> dict[str, Any]:
    from tests.gpu.timings import attention_rows
    from thirdeye.server.bench.device import measure_bandwidth

    bandwidth = measure_bandwidth(device)
    rows = list(attention_rows(device, bandwidth, batches, contexts))
    return {"bandwidth": bandwidth, "rows": rows}


def products(device: torch.device, rows: Sequence[int]) -> list[dict[str, Any]]:
    from tests.gpu.timings import product_rows

    return list(product_rows(device, rows))


def serve(device: torch.device) -> dict[str, Any]:
    """The engine behind HTTP against the engine alone."""
    from tests.gpu.checkpoint import LLAMA_0_6B, LLAMA_TINY
    from tests.gpu.served import served

    if device.type == "cuda":
        return served(device, LLAMA_0_6B, num_streams=256, num_prompt=128, num_tokens=256)
    return served(device, LLAMA_TINY, num_streams=3, num_prompt=8, num_tokens=16)


def engine(shape: str, **changes: Any) -> dict[str, Any]:
    """One run of `thirdeye bench engine`, its lines shown, its JSON kept."""
    from thirdeye.server.bench.engine import run
    from thirdeye.server.bench.report import Plan

    fields: dict[str, Any] = {
        "batches": [],
        "contexts": [],
        "steps": 32,
        "workload": 0,
        "device": "auto",
        "dtype": "auto",
        "attention": "auto",
        "bandwidth": None,
    }
    if shape == "tiny":
        fields |= {"steps": 4, "bandwidth": 1e10}
    last = ""
    for line in run(Plan(shape, **(fields | changes))):
        print("         ", line[:200], flush=True)
        last = line
    result: dict[str, Any] = json.loads(last)
    return result


if __name__ == "__main__":
    sys.exit(main())
