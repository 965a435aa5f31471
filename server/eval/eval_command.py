"""`thirdeye eval`: its options. What is heavy is imported when it runs: --help is quick."""

from pathlib import Path
from typing import Annotated

import typer

from thirdeye.clients.grouped_help import GroupedCommand

app = typer.Typer(
    name="eval",
    help="Measure what fewer bits cost: perplexity, divergence from fp32.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Model = Annotated[
    str | None, typer.Argument(help="A file, a folder, or a name that `thirdeye list` shows.")
]
Quantize = Annotated[
    list[str] | None,
    typer.Option("--quantize", metavar="NAME", help="As in `serve` (repeatable)."),
]
Text = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What is read. [a page of Melville]")
]
Window = Annotated[
    int, typer.Option(min=2, metavar="N", help="Tokens that are read from an empty cache.")
]
KVDtype = Annotated[str, typer.Option("--kv-dtype", metavar="NAME", help="As in `serve`.")]
Against = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Whose fp32 is the measure. [the same file]"),
]


@app.command(cls=GroupedCommand)
def perplexity(
    model: Model = None,
    quantize: Quantize = None,
    text: Text = None,
    window: Window = 512,
    kv_dtype: KVDtype = "auto",
) -> None:
    """exp of the mean surprise at each token of a text: lower is better."""
    show(model, quantize or ["auto", "none"], text, window, kv_dtype, is_compared=False)


@app.command(cls=GroupedCommand)
def kl(
    model: Model = None,
    quantize: Quantize = None,
    text: Text = None,
    window: Window = 512,
    kv_dtype: KVDtype = "auto",
    against: Against = None,
) -> None:
    """Kullback-Leibler divergence of next-token distributions from fp32 of the same file, or of
    another: its mean, what 1 % of tokens exceed, and how often the likeliest token is the same."""
    quantizes = quantize or ["auto", "int8"]
    show(model, quantizes, text, window, kv_dtype, is_compared=True, against=against)


def show(
    model: str | None,
    quantizes: list[str],
    text: Path | None,
    window: int,
    kv_dtype: str,
    *,
    is_compared: bool,
    against: str | None = None,
) -> None:
    """A line for each."""
    from thirdeye.model.native.library import Library
    from thirdeye.server.eval.quality import TEXT, judge
    from thirdeye.server.load.native_kernels import compiled_library
    from thirdeye.weights.checkpoint import open_checkpoint
    from thirdeye.weights.errors import ModelError
    from thirdeye.weights.resolve import resolve_model

    try:
        library = compiled_library()
        found = judge(
            open_checkpoint(resolve_model(model)),
            (text or TEXT).read_text(),
            quantizes,
            native=Library(Path(library)) if library else None,
            window=window,
            is_compared=is_compared,
            kv_dtype=kv_dtype,
            against=open_checkpoint(resolve_model(against)) if against else None,
        )
    except (ValueError, OSError, ModelError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    for one in found:
        line = f"{one.quantize:8} perplexity {one.perplexity:9.4f}"
        if is_compared:
            line += f"   KL {one.mean_kl:.5f}, p99 {one.p99_kl:.4f}   top-1 {one.top1:6.1%}"
        typer.echo(f"{line}   {one.linear}")
