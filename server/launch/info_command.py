"""`thirdeye info`: a model described from its metadata alone, without torch."""

from rich.console import Console
from rich.table import Table

from thirdeye.model.config import ModelConfig
from thirdeye.model.parameter_counts import ParameterCounts, parameter_counts
from thirdeye.server.launch.console import fail
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.resolve import resolve_model


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
