"""`thirdeye bench engine`: its options. What is heavy is imported when it runs: --help is quick."""

from typing import Annotated

import typer

from thirdeye.clients.grouped_help import COMMON
from thirdeye.server.settings.options import option

WORK, MODEL = "What is timed", "The model, as it is served"


def bench_engine(
    shape: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="llama3-8b, qwen3-0.6b, gpt2-xl, smollm2-135m, or a checkpoint.",
            rich_help_panel=COMMON,
        ),
    ] = "smollm2-135m",
    device: Annotated[str, option("device", COMMON)] = "auto",
    dtype: Annotated[str, option("dtype", COMMON)] = "auto",
    quantize: Annotated[str, option("quantize", COMMON)] = "none",
    kv_dtype: Annotated[str, option("kv_dtype", MODEL)] = "auto",
    attention: Annotated[str, option("attention", MODEL)] = "auto",
    cuda_graphs: Annotated[str, option("cuda_graphs", MODEL)] = "auto",
    deterministic: Annotated[bool, option("deterministic", MODEL)] = False,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            "--batch",
            "-b",
            min=1,
            metavar="N",
            help="Sequences in a batch (repeatable). [1 8 64; on a CPU 1 8]",
            rich_help_panel=COMMON,
        ),
    ] = None,
    context: Annotated[
        list[int] | None,
        typer.Option(
            "--context",
            "-c",
            min=1,
            metavar="N",
            help="Tokens that each of them has (repeatable). [512]",
            rich_help_panel=COMMON,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Steps of each batch and context.", rich_help_panel=WORK
        ),
    ] = 32,
    prefill: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Time a prompt of so many tokens (repeatable).",
            rich_help_panel=COMMON,
        ),
    ] = None,
    workload: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Sequences of nano-vllm's workload (its own: 256), 0: none.",
            rich_help_panel=WORK,
        ),
    ] = 0,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="On a GPU, behind all that is timed: the share of a step in which it is idle.",
            rich_help_panel=WORK,
        ),
    ] = False,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            metavar="GB/S",
            help="The memory's, to hold times against. [measured by a copy]",
            rich_help_panel=WORK,
        ),
    ] = None,
) -> None:
    """Time the engine alone, with random weights of any shape. On a CPU --quantize auto is what
    serves there."""
    from thirdeye.server.bench.measure import run
    from thirdeye.server.bench.random_model import default_batches
    from thirdeye.server.bench.report import Plan

    try:
        plan = Plan(
            shape=shape,
            batches=batch or default_batches(device),
            contexts=context or [512],
            steps=steps,
            workload=workload,
            device=device,
            dtype=dtype,
            attention=attention,
            bandwidth=bandwidth * 1e9 if bandwidth else None,
            cuda_graphs=cuda_graphs,
            quantize=quantize,
            kv_dtype=kv_dtype,
            prefills=prefill or [],
            is_deterministic=deterministic,
            is_profiled=profile,
        )
        for line in run(plan):
            typer.echo(line)
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
