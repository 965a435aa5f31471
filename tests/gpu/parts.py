"""The parts of `run.py` by name, in order of worth, should time run out.

Imports are inside: a missing package is one part's reason, not the end.
"""

import platform
import traceback
from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch

from tests.gpu.part import ContextLost, Findings, Work, describe
from tests.gpu.tables import DETERMINISTIC_BATCHES
from thirdeye.server.bench.report import Plan

EIGHT, SMALL = "llama3-8b", "qwen3-0.6b"
ATTENTION_GRID = (1, 8, 64, 256), (512, 1024, 4096)  # batches, contexts
PRODUCT_ROWS = (1, 8, 16, 64, 256, 2048)
SERVED_SIZES = {"num_streams": 256, "num_prompt": 128, "num_tokens": 256}
Plans = dict[str, dict[str, Any]]


def facts() -> dict[str, Any]:
    is_cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def parts() -> dict[str, Work]:
    return dict(on_gpu() if torch.cuda.is_available() else on_cpu())


def absent() -> dict[str, str]:
    """What is left out before anything runs, and why."""
    if not torch.cuda.is_available():
        return dict.fromkeys(("checks", "memcheck"), "this torch build sees no GPU")
    from tests.gpu.memcheck import TOOL, tool

    return {} if tool() else {"memcheck": f"{TOOL} is not installed"}


def on_gpu() -> Iterator[tuple[str, Work]]:
    device = torch.device("cuda")
    yield "checks", lambda findings: run_checks(device, findings)
    plans = gpu_plans()
    for name in ("engine 0.6B", "engine 8B"):
        yield name, engine(**plans.pop(name))
    yield "attention", lambda findings: attention(device, *ATTENTION_GRID, findings)
    for name, plan in plans.items():
        yield name, engine(**plan)
        if name == "workload 0.6B":
            yield "served", lambda findings: serve(device, findings)
    yield "products", lambda findings: products(device, PRODUCT_ROWS, findings)
    yield "memcheck", memcheck


def on_cpu() -> Iterator[tuple[str, Work]]:
    device = torch.device("cpu")
    yield "attention", lambda findings: attention(device, (1, 2), (40,), findings)
    yield "engine tiny", engine(shape="tiny", batches=[1, 2], contexts=[40], prefills=[30])
    yield "engine tiny, int8", engine(shape="tiny", batches=[1], contexts=[40], quantize="int8")
    yield "served tiny", lambda findings: serve(device, findings)
    yield "products", lambda findings: products(device, (1, 20), findings)


def gpu_plans() -> Plans:
    """What the goals of docs/gpu.md are measured by."""
    plans: Plans = {
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
    plans["engine 0.6B, profiled"] = {
        "shape": SMALL,
        "batches": [1, 64],
        "contexts": [512],
        "is_profiled": True,
    }
    return plans


def run_checks(
    device: torch.device, findings: Findings, names: Container[str] | None = None
) -> None:
    """All of them, or those that are named. Raises ContextLost behind a check that has taken the
    device's context with it: the checks that are left want another process."""
    from tests.gpu.checks.all_checks import checks

    found = findings.found or {"passed": [], "failed": {}}
    for name, check in checks():
        if name in found["passed"] or name in found["failed"]:
            continue
        if names is not None and name not in names:
            continue
        findings.save(found, running=name)
        torch.manual_seed(0)
        try:
            with torch.inference_mode():
                check(device)
                synchronize(device)
            found["passed"].append(name)
        except Exception as error:
            traceback.print_exc()
            found["failed"][name] = describe(error)
        findings.save(found)
        try:
            synchronize(device)
        except RuntimeError as error:
            raise ContextLost(name) from error


def memcheck(findings: Findings) -> None:
    from tests.gpu.memcheck import memcheck

    memcheck(findings)


def synchronize(device: torch.device) -> None:
    """Raises what a kernel has done wrong."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def attention(
    device: torch.device, batches: Sequence[int], contexts: Sequence[int], findings: Findings
) -> None:
    from tests.gpu.timings import attention_rows
    from thirdeye.server.bench.device import measure_bandwidth

    with torch.inference_mode():
        bandwidth = measure_bandwidth(device)
        rows: list[dict[str, Any]] = []
        for row in attention_rows(device, bandwidth, batches, contexts):
            rows.append(row)
            findings.save({"bandwidth": bandwidth, "rows": rows})


def products(device: torch.device, rows: Sequence[int], findings: Findings) -> None:
    from tests.gpu.timings import product_rows

    with torch.inference_mode():
        known: list[dict[str, Any]] = []
        for row in product_rows(device, rows):
            known.append(row)
            findings.save(known)


def serve(device: torch.device, findings: Findings) -> None:
    """The engine behind HTTP against the engine alone."""
    from tests.gpu.checkpoint import LLAMA_0_6B, LLAMA_TINY
    from tests.gpu.served import served

    with torch.inference_mode():
        if device.type == "cuda":
            findings.save(served(device, LLAMA_0_6B, **SERVED_SIZES))
        else:
            findings.save(served(device, LLAMA_TINY, num_streams=3, num_prompt=8, num_tokens=16))


def engine_plan(shape: str, **changes: Any) -> Plan:
    """What one run of `thirdeye bench engine` is asked for."""
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
    return Plan(shape, **(fields | changes))


def engine(shape: str, **changes: Any) -> Work:
    """That run: its lines shown, what it knows kept at each."""

    def work(findings: Findings) -> None:
        from thirdeye.server.bench.measure import measure

        for line, known in measure(engine_plan(shape, **changes)):
            print("         ", line[:200], flush=True)
            findings.save(known)

    return work
