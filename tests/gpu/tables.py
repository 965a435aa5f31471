"""The report of `run.py` as tables for docs/gpu.md: the goals first, then what they come from.

A step's goal is a share of its floor: the bytes that it must read, by the bandwidth of a large copy
on the same card. So it means the same on an H100 and on an H200, whose memory is 1.43 times faster.
Shapes are in bf16 with random weights; a row that was not measured says so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Parts = dict[str, Any]

DETERMINISTIC_BATCHES = (1, 8, 64, 256)
MOST_FOR_A_DEFAULT = 0.1  # of a step


@dataclass(frozen=True)
class Goal:
    """`find` gives the measured number out of the parts; KeyError or IndexError: not measured."""

    what: str
    unit: str
    reach: float
    beyond: float | None  # further than asked for
    is_less_better: bool
    find: Callable[[Parts], float]

    def row(self, parts: Parts) -> list[str]:
        try:
            value = self.find(parts)
        except (KeyError, IndexError, TypeError, ZeroDivisionError):
            return [self.what, self.limit, "not measured", ""]
        return [self.what, self.limit, f"{value:,.3g} {self.unit}", self._verdict(value)]

    def _verdict(self, value: float) -> str:
        sign = -1 if self.is_less_better else 1
        if self.beyond is not None and sign * value >= sign * self.beyond:
            return "yes, and beyond"
        return "yes" if sign * value >= sign * self.reach else "no"

    @property
    def limit(self) -> str:
        side = "at most" if self.is_less_better else "at least"
        beyond = "" if self.beyond is None else f"; beyond: {self.beyond:,g}"
        return f"{side} {self.reach:,g} {self.unit}{beyond}"


def cell(part: str, batch: int, name: str, context: int = 512) -> Callable[[Parts], float]:
    def find(parts: Parts) -> float:
        cells = parts[part]["cells"]
        return next(float(c[name]) for c in cells if (c["batch"], c["context"]) == (batch, context))

    return lambda parts: _or_key_error(find, parts)


def _or_key_error(find: Callable[[Parts], float], parts: Parts) -> float:
    try:
        return find(parts)
    except StopIteration:
        raise KeyError("no such cell") from None


def attention_of(parts: Parts, backend: str, name: str) -> float:
    """Of bf16, batch 64, context 1,024."""
    rows = [r for r in parts["attention"]["rows"] if r["backend"] == backend]
    wanted = (64, 1024, "bfloat16")
    found = [r for r in rows if (r["batch"], r["context"], r["kv_dtype"]) == wanted]
    return float(found[0][name])


def few_rows_rate(num_rows: int) -> Callable[[Parts], float]:
    """Of our product, dense bf16: a layer of each kind in an 8B model, ours against the library."""

    def find(parts: Parts) -> float:
        rows = [row for row in parts["products"] if row["rows"] == num_rows]
        ours = sum(row["us"] for row in rows if row["method"] == "dense, ours for few rows")
        return float(sum(row["us"] for row in rows if row["method"] == "dense")) / ours

    return find


def deterministic_cost(batch: int) -> Callable[[Parts], float]:
    """Of a step of the 8B shape, as a share of the default's."""
    ours, default = (
        cell(part, batch, "step_ms") for part in ("engine 8B, deterministic", "engine 8B")
    )
    return lambda parts: ours(parts) / default(parts) - 1


def ratio(other: str) -> Callable[[Parts], float]:
    """How many times quicker than dense bf16, 8B, batch 1."""
    dense, ours = cell("engine 8B", 1, "step_ms"), cell(other, 1, "step_ms")
    return lambda parts: dense(parts) / ours(parts)


OF_FLOOR = "of the floor"
TO_LIBRARY = ("of the library's rate", 1.0, 1.1, False)
GOALS = (
    Goal(
        *("8B, batch 1, context 512", OF_FLOOR, 0.78, 0.9, False),
        cell("engine 8B", 1, "share_of_floor"),
    ),
    Goal(*("0.6B, batch 1", OF_FLOOR, 0.38, 0.55, False), cell("engine 0.6B", 1, "share_of_floor")),
    Goal(
        *("nano-vllm workload, 0.6B", OF_FLOOR, 0.65, 0.76, False),
        lambda p: p["workload 0.6B"]["workload"]["share_of_floor"],
    ),
    Goal(
        *("nano-vllm workload, 8B", OF_FLOOR, 0.6, 0.69, False),
        lambda p: p["workload 8B"]["workload"]["share_of_floor"],
    ),
    Goal(
        *("decode attention, batch 64, context 1,024", "of a copy's bandwidth", 0.85, 1.0, False),
        lambda p: attention_of(p, "triton", "share_of_copy"),
    ),
    Goal(
        *("the same", "of FlashInfer's rate", 0.95, 1.0, False),
        lambda p: (
            attention_of(p, "triton", "bytes_per_second")
            / attention_of(p, "flashinfer", "bytes_per_second")
        ),
    ),
    Goal(
        *("GPU idle, 0.6B, batch 64", "of a step", 0.05, 0.02, True),
        cell("engine 0.6B, profiled", 64, "gpu_idle_share"),
    ),
    Goal(
        *("prompt of 8,192 tokens, 8B", "of the matmul rate", 0.6, 0.7, False),
        lambda p: p["engine 8B"]["prefills"][0]["share_of_matmul"],
    ),
    Goal("a layer's products, 8B, 1 row", *TO_LIBRARY, few_rows_rate(1)),
    Goal("a layer's products, 8B, 8 rows", *TO_LIBRARY, few_rows_rate(8)),
    Goal("fp8, 8B, batch 1", "times bf16", 1.35, 1.6, False, ratio("engine 8B, fp8")),
    Goal("int4, 8B, batch 1", "times bf16", 1.8, 2.2, False, ratio("engine 8B, int4")),
    Goal(
        *("served over SSE, 256 streams", "of the in-process rate", 0.95, 0.98, False),
        lambda p: p["served"]["share_of_in_process"],
    ),
    *(
        Goal(
            *(
                f"--deterministic costs, 8B, batch {batch}",
                "of a step",
                MOST_FOR_A_DEFAULT,
                None,
                True,
            ),
            deterministic_cost(batch),
        )
        for batch in DETERMINISTIC_BATCHES
    ),
)


def to_markdown(report: dict[str, Any]) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    parts = report["parts"]
    machine = f"{report['device']}, torch {report['torch']}, {report['date']}"
    yield f"{machine}, commit {report['commit']}, `{report['command']}`"
    yield ""
    yield from table(("what", "goal", "measured", "met"), [goal.row(parts) for goal in GOALS])
    yield f"\n{decision(parts)}"
    for part, title in (("checks", "Checks"), ("memcheck", "Every access watched")):
        if found := parts.get(part):
            ending = f" ({found['ending']})" if found.get("ending") else ""
            passed, failed = len(found["passed"]), len(found["failed"])
            yield f"\n{title}: {passed} passed, {failed} failed{ending}."
            yield from (f"* {name}: {error}" for name, error in found["failed"].items())
    if compiled := report.get("compiled"):
        yield "\nKernels that triton found in its cache, and that it compiled\n"
        rows = [[name, *map(_short, numbers.values())] for name, numbers in compiled.items()]
        yield from table(("part", "found", "compiled", "seconds"), rows)
    cells = [[name, *_numbers(c)] for name, part in parts.items() for c in _cells(part)]
    if cells:
        yield "\nDecode steps\n"
        names = ("run", "batch", "context", "ms", "tok/s", "of floor", "idle")
        yield from table(names, cells)
    if rows := parts.get("attention", {}).get("rows"):
        yield "\nDecode attention\n"
        yield from table(list(rows[0]), [[_short(v) for v in row.values()] for row in rows])
    if rows := parts.get("products"):
        yield "\nLinear layers\n"
        yield from table(list(rows[0]), [[_short(v) for v in row.values()] for row in rows])
    if report["left_out"]:
        yield "\nLeft out\n"
        yield from (f"* {name}: {reason}" for name, reason in report["left_out"].items())


def decision(parts: Parts) -> str:
    """Whether the same bits in any batch shall be the default, by the rule: 10 % at every batch."""
    try:
        costs = [deterministic_cost(batch)(parts) for batch in DETERMINISTIC_BATCHES]
    except (KeyError, ZeroDivisionError):
        return "Deterministic mode: its cost was not measured, so it stays a mode."
    most = f"at most {max(costs):.1%} at batches {', '.join(map(str, DETERMINISTIC_BATCHES))}"
    if max(costs) <= MOST_FOR_A_DEFAULT:
        return f"Deterministic mode: it costs {most}, so it becomes the default."
    return f"Deterministic mode: it costs {most}, more than 10 %, so it stays a mode."


def _cells(part: Any) -> list[dict[str, Any]]:
    return part.get("cells", []) if isinstance(part, dict) else []


def _numbers(c: dict[str, Any]) -> list[str]:
    names = ("batch", "context", "step_ms", "tokens_per_second", "share_of_floor", "gpu_idle_share")
    return [_short(c[name]) for name in names]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
