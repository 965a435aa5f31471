"""`thirdeye bench`: the command line of the load tester."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="bench",
    help="Measure a running server, ours or another.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130

Saved = Annotated[Path, typer.Argument(help="A result of `bench serve`, as JSON.")]
Html = Annotated[Path | None, typer.Option(help="Write a report here, one HTML page.")]
Figures = Annotated[
    Path | None, typer.Option(help="Write PNG and SVG into this folder (extra: bench).")
]


@contextmanager
def told(code: int) -> Iterator[None]:
    """What goes wrong is a line on stderr and the exit code, and no traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(code) from None


@app.command()
def serve(
    url: Annotated[str, typer.Argument(help="Base URL of any OpenAI-style server.")],
    api_key: Annotated[str | None, typer.Option(help="Default: OPENAI_API_KEY.")] = None,
    model: Annotated[str | None, typer.Option(help="Default: the server's first.")] = None,
    endpoint: Annotated[str, typer.Option(help="chat or completions.")] = "chat",
    concurrency: Annotated[
        list[int] | None,
        typer.Option("--concurrency", "-c", help="Closed loop: so many users. Repeatable. [1]"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option("--rate", "-r", help="Open loop: requests a second. Repeatable."),
    ] = None,
    burstiness: Annotated[
        str, typer.Option(help="Open loop: 1 is Poisson, less comes in bursts, or: constant.")
    ] = "1",
    ramp_to: Annotated[
        float | None, typer.Option(help="Open loop: the rate at the end, from --rate on.")
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(help="Open loop: more than these wait at the client.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Raise users (or --rate) until it is saturated.")
    ] = False,
    sweep_limit: Annotated[int, typer.Option(help="The highest load a sweep tries.")] = 512,
    num_requests: Annotated[
        int | None, typer.Option("--num-requests", "-n", help="For each load. [4 a user, 30 s]")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Begin requests for so long, for each load.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each load; the median is shown.")] = 1,
    warmup: Annotated[int, typer.Option(help="Requests before, not counted.")] = 1,
    prompt_tokens: Annotated[
        int, typer.Option(help="Length of a prompt, about; the median.")
    ] = 100,
    prompt_sigma: Annotated[float, typer.Option(help="Log-normal spread; 0 is fixed.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Length of an answer; the median.")] = 128,
    output_sigma: Annotated[float, typer.Option(help="Log-normal spread; 0 is fixed.")] = 0.0,
    longest: Annotated[int, typer.Option(help="No prompt and no answer is longer.")] = 4096,
    prefix_tokens: Annotated[int, typer.Option(help="A shared prefix of this length.")] = 0,
    num_prefixes: Annotated[int, typer.Option(help="So many different prefixes.")] = 1,
    prefix_share: Annotated[float, typer.Option(help="This share of requests has one.")] = 1.0,
    turns: Annotated[int, typer.Option(help="Questions in a conversation.")] = 1,
    think_seconds: Annotated[float, typer.Option(help="Before each further question.")] = 0.0,
    trace: Annotated[
        Path | None, typer.Option(help="JSON lines with prompts and arrival times.")
    ] = None,
    ignore_eos: Annotated[
        bool,
        typer.Option("--ignore-eos", help="All answers as long as asked. Not in OpenAI's API."),
    ] = False,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    param: Annotated[
        list[str] | None, typer.Option(help="Another field, as NAME=JSON. Repeatable.")
    ] = None,
    goodput: Annotated[
        list[str] | None,
        typer.Option(help="A limit in ms: ttft:500, tpot:50, itl:200, e2e:9000. Repeatable."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.")] = 600.0,
    max_retries: Annotated[int, typer.Option(help="After 429, 5xx or no connection.")] = 0,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result here, as JSON.")
    ] = None,
    html: Html = None,
    figures: Figures = None,
) -> None:
    """Send load to a server and report what its users would see."""
    from thirdeye.clients.loadtest.arrivals import CONSTANT
    from thirdeye.clients.loadtest.prompts import Length, Mix
    from thirdeye.clients.loadtest.run import Settings
    from thirdeye.clients.loadtest.stats import Goals
    from thirdeye.clients.target import Target

    with told(USAGE):
        if endpoint not in ("chat", "completions"):
            raise ValueError(f"'endpoint' must be chat or completions, got {endpoint!r}.")
        settings = Settings(
            model=model,
            is_chat=endpoint == "chat",
            params={
                "temperature": temperature,
                **({"ignore_eos": True} if ignore_eos else {}),
                **read_params(param or []),
            },
            mix=Mix(
                prompt=Length(prompt_tokens, prompt_sigma, longest),
                answer=Length(max_tokens, output_sigma, longest),
                prefix_tokens=prefix_tokens,
                num_prefixes=num_prefixes,
                prefix_share=prefix_share,
                num_turns=turns,
                think_seconds=think_seconds,
            ),
            trace=str(trace) if trace else None,
            concurrency=tuple(concurrency or ()),
            rates=tuple(rate or ()),
            burstiness=CONSTANT if burstiness == "constant" else float(burstiness),
            ramp_to=ramp_to,
            max_concurrency=max_concurrency,
            is_sweep=sweep,
            sweep_limit=sweep_limit,
            num_requests=num_requests,
            seconds=seconds,
            repeats=repeats,
            warmup=warmup,
            goals=Goals.read(goodput or []),
            timeout=timeout,
            max_retries=max_retries,
            seed=seed,
        )
        target = Target.find(url, api_key)
    raise typer.Exit(run_serve(target, settings, output, html, figures))


@app.command()
def compare(
    before: Saved,
    after: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Put two results side by side: is a change more than chance?"""
    from rich.console import Console

    from thirdeye.clients.loadtest.compare import show_changes
    from thirdeye.clients.loadtest.result import read_result

    with told(FAILED):
        show_changes(read_result(before), read_result(after), Console(highlight=False))


@app.command()
def report(
    result: Saved,
    html: Html = None,
    figures: Figures = None,
) -> None:
    """Show a result again, and write its report and its figures."""
    from rich.console import Console

    from thirdeye.clients.loadtest.result import read_result
    from thirdeye.clients.loadtest.show import show_result

    with told(FAILED):
        read = read_result(result)
        show_result(read, Console(highlight=False))
        write_pictures(read, html, figures)


def write_pictures(result: dict[str, Any], html: Path | None, figures: Path | None) -> None:
    """Raises OSError, and ValueError where matplotlib is not installed."""
    from thirdeye.clients.loadtest.report import page

    if html:
        html.write_text(page(result))
    if figures:
        try:
            from thirdeye.clients.loadtest.figures import save_figures
        except ImportError:
            raise ValueError(
                f"--figures needs matplotlib: {sys.executable} -m pip install matplotlib"
            ) from None
        save_figures(result, figures)


def run_serve(
    target: Any, settings: Any, output: Path | None, html: Path | None, figures: Path | None
) -> int:
    """Runs and shows. 1: no server, no model, no trace, or not one whole answer. 130: Ctrl-C."""
    from rich.console import Console

    from thirdeye.clients.errors import ThirdeyeError
    from thirdeye.clients.loadtest.progress import LiveProgress
    from thirdeye.clients.loadtest.result import write_result
    from thirdeye.clients.loadtest.run import event_loop, run
    from thirdeye.clients.loadtest.show import show_result

    errors = Console(stderr=True, highlight=False)
    try:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            result = runner.run(run(target, settings, LiveProgress(errors)))
        show_result(result, Console(highlight=False))
        if output:
            write_result(result, output)
        write_pictures(result, html, figures)
    except (ThirdeyeError, OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if any(point["whole"] for point in result["points"]) else FAILED


def read_params(texts: list[str]) -> dict[str, Any]:
    """`["top_p=0.9"]` as fields. Raises ValueError."""
    fields = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            raise ValueError(f"'param' must be like top_p=0.9, got {text!r}.") from None
    return fields
