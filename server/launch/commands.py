"""The commands that need no server: models, info, doctor. Each returns an exit status.

They answer without torch where they can: a model is described from its metadata alone.
"""

import importlib.metadata
import platform

from rich.console import Console
from rich.table import Table

from thirdeye.model.config import ModelConfig
from thirdeye.model.parameter_counts import ParameterCounts, parameter_counts
from thirdeye.server.engine.execution.cpu_threads import own_cpus
from thirdeye.server.launch.console import fail
from thirdeye.server.load.native_kernels import native_status
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.paths import models_directory
from thirdeye.weights.resolve import list_models, resolve_model

PACKAGES = ("torch", "fastapi", "starlette", "uvicorn", "sse-starlette", "tiktoken", "safetensors")


def show_models() -> int:
    """A line a model: what can be pulled, what is here."""
    table = Table("name", "size", "where", box=None, pad_edge=False)
    for entry in list_models():
        where = str(entry.path) if entry.path else f"not here: thirdeye pull {entry.name}"
        table.add_row(entry.name, f"{entry.size_bytes / 1e6:,.0f} MB", where)
    Console(soft_wrap=True).print(table)
    return 0


def show_info(spec: str | None) -> int:
    """A model's shape and its parameters part by part, attention's share next to the MLP's."""
    try:
        path = resolve_model(spec)
        checkpoint = open_checkpoint(path)
        config = checkpoint.config
    except ModelError as error:
        return fail(str(error))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{checkpoint.name}   {path}\n")
    console.print(shape_table(config))
    console.print(parts_table(parameter_counts(config)))
    return 0


def shape_table(config: ModelConfig) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    heads = f"{config.num_heads} of {config.head_dim}"
    if config.num_kv_heads != config.num_heads:
        heads += f", sharing {config.num_kv_heads} key-value heads"
    rope = config.rope
    positions = f"rotary, theta {rope.theta:,.0f}" if rope else "learned"
    rows = {
        "architecture": config.architecture,
        "context": f"{config.max_position_embeddings:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens",
        "layers": str(config.num_hidden_layers),
        "residual stream": f"{config.hidden_size} wide",
        "attention heads": heads,
        "positions": positions,
        "norm": config.norm.value,
        "MLP": f"{config.intermediate_size} wide, {config.activation.value}"
        + (", gated" if config.gated_mlp else ""),
        "head": "tied to the embeddings" if config.tie_word_embeddings else "its own",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def parts_table(counts: ParameterCounts) -> Table:
    """Parameters by part; shares are of the blocks' weights, where attention and MLP live."""
    table = Table("\nparameters", "", "of all", "of attention + MLP", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    parts = [
        ("embeddings", counts.embeddings),
        ("positions", counts.positions),
        ("attention", counts.attention),
        ("  query", counts.query),
        ("  key", counts.key),
        ("  value", counts.value),
        ("  output", counts.output),
        ("MLP", counts.mlp),
        ("norms", counts.norms),
        ("head", counts.head),
    ]
    shares = {"attention": counts.attention_share, "MLP": counts.mlp_share}
    for name, count in parts:
        if count:
            share = f"{shares[name]:.1%}" if name in shares else ""
            table.add_row(name, f"{count:,}", f"{count / counts.total:.1%}", share)
    table.add_row("total", f"{counts.total:,}", "100.0%")
    return table


def show_doctor() -> int:
    """Versions, device, cache: what a bug report needs. Imports torch."""
    import torch  # noqa: PLC0415 (the other commands do without its two seconds)

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("thirdeye", importlib.metadata.version("thirdeye-server"))
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        table.add_row(package, importlib.metadata.version(package))
    table.add_row("cpu threads", str(torch.get_num_threads()))
    table.add_row("native kernels", native_status())
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            table.add_row(f"cuda:{index}", f"{properties.name}, {memory:.0f} GiB")
    else:
        table.add_row("gpu", "none that this torch build sees")
    table.add_row("ranks", most_ranks(torch.cuda.device_count()))
    table.add_row("cache", str(models_directory()))
    for entry in list_models():
        table.add_row(f"  {entry.name}", str(entry.path or "not here"))
    Console(soft_wrap=True, highlight=False).print(table)
    return 0


def most_ranks(num_gpus: int) -> str:
    """What `--tensor-parallel` may be on this machine, and what ranks would speak over."""
    most, over = (num_gpus, "NCCL") if num_gpus else (len(own_cpus()), "gloo, on the CPU")
    return f"--tensor-parallel up to {most}, over {over}"
