"""`thirdeye info` of a low-rank adapter: what it changes, by its files alone, and whether it will
serve on the model that it was made for, if that is here."""

from collections import Counter
from pathlib import Path

from rich.table import Table

from thirdeye.server.launch.console import PlainConsole, fail
from thirdeye.weights.adapters.adapter import Pair, find_pairs, open_adapter
from thirdeye.weights.adapters.adapter_config import AdapterConfig
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.resolve import resolve_model


def show_adapter(path: Path) -> int:
    """The exit status: 1 if it will not serve."""
    try:
        config, _, pairs = find_pairs(Directory(path))
    except ModelError as error:
        return fail(str(error))
    console = PlainConsole(soft_wrap=True)
    console.print(f"{path.resolve().name}   {path}\n")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, text in rows_of(config, pairs).items():
        table.add_row(name, text)
    console.print(table)
    verdict, refusal = serves(path, config.base)
    console.print(f"\nserves: {verdict}")
    if refusal:
        console.print(f"  {refusal}")
    return 1 if refusal else 0


def rows_of(config: AdapterConfig, pairs: dict[str, Pair]) -> dict[str, str]:
    ranks = Counter(config.rank_of(name) for name in pairs)
    scales = sorted({round(config.scale_of(name), 6) for name in pairs})
    numbers = sum(entry.num_numbers for pair in pairs.values() for entry in pair.values())
    targets = Counter(name.rpartition(".")[2] for name in pairs)
    return {
        "kind": "low-rank adapter (peft's LORA)",
        "made for": config.base or "it does not say",
        "rank": ", ".join(f"{rank} in {count} modules" for rank, count in ranks.most_common()),
        "scale": ", ".join(f"{scale:g}" for scale in scales),
        "modules": ", ".join(f"{count} {name}" for name, count in sorted(targets.items())),
        "parameters": f"{numbers:,}",
        "memory": f"{numbers * 4 / 1e6:,.2f} MB in float32",
    }


def serves(path: Path, base: str) -> tuple[str, str]:
    """In a word, and why not. Nothing is fetched for it."""
    try:
        found = open_checkpoint(resolve_model(base)) if base else None
    except ModelError:
        found = None
    if found is None:
        return "yes, on a model of its shapes; the one it was made for is not here", ""
    try:
        open_adapter(path, found.config)
    except ModelError as error:
        return f"no, not on {found.name}", str(error)
    return f"yes, on {found.name}", ""
