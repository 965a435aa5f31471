"""A plan of `thirdeye bench engine` from its first cell to its last, told as it goes."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from thirdeye.server.bench.engine import EngineBench
from thirdeye.server.bench.report import Cell, Plan, Prefill, Workload


@dataclass(slots=True)
class BenchResult:
    """What is known so far."""

    facts: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    matmul_rate: float | None = None
    prefills: list[Prefill] = field(default_factory=list)
    workload: Workload | None = None

    def as_json(self) -> dict[str, Any]:
        return self.facts | {
            "cells": [asdict(cell) for cell in self.cells],
            "matmul_rate": self.matmul_rate,
            "prefills": [asdict(prefill) for prefill in self.prefills],
            "workload": asdict(self.workload) if self.workload else None,
        }


def measure(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """A line for a person and all that is known by then, at each thing that is found out. What is
    profiled is so behind all that is timed."""
    with torch.inference_mode():
        bench = EngineBench(plan)
        known = BenchResult(bench.facts())
        for line in bench.head():
            yield line, known.as_json()
        for context in plan.contexts:
            for batch in plan.batches:
                known.cells.append(bench.cell(batch, context))
                yield str(known.cells[-1]), known.as_json()
        for length in plan.prefills:
            known.prefills.append(bench.prefill(length))
            known.matmul_rate = bench.matmul_rate
            yield str(known.prefills[-1]), known.as_json()
        if plan.workload:
            line = f"nano-vllm workload: {plan.workload} sequences, all at once, to the end ..."
            yield line, known.as_json()
            known.workload = bench.workload(plan.workload)
            yield str(known.workload), known.as_json()
        for i, cell in enumerate(known.cells if plan.is_profiled else ()):
            known.cells[i] = bench.profiled(cell)
            yield f"profiled: {known.cells[i]}", known.as_json()


def run(plan: Plan) -> Iterator[str]:
    """Lines for a person as they come to be; the last is JSON."""
    known: dict[str, Any] = {}
    for line, known in measure(plan):  # noqa: B007  # the last is wanted
        yield line
    yield json.dumps(known)
