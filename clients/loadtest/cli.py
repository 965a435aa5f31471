"""`thirdeye bench`: the command line of the load tester."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from thirdeye.clients.grouped_help import COMMON, GroupedCommand

app = typer.Typer(
    name="bench",
    help="Measure a running server, ours or another.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130

SERVER, LOAD, LENGTH = "The server", "Load", "How long"
TEXT, SAMPLING, RESULT = "Prompts and answers", "Sampling", "The result"


def option(group: str, value: str | None, text: str, *names: str) -> OptionInfo:
    """One of a group in --help; `value` is its placeholder there."""
    made: OptionInfo = typer.Option(*names, help=text, metavar=value, rich_help_panel=group)
    return made


Saved = Annotated[Path, typer.Argument(help="A result of `bench serve`, as JSON.")]
HTML = ("FILE", "Write a report here, one HTML page.")
Html = Annotated[Path | None, option(RESULT, *HTML)]
Figures = Annotated[
    Path | None, option(RESULT, "FOLDER", "Write PNG and SVG here (needs matplotlib).")
]


@contextmanager
def told(code: int) -> Iterator[None]:
    """What goes wrong is a line on stderr and the exit code, and no traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(code) from None


@app.command(cls=GroupedCommand)
def serve(
    url: Annotated[str, typer.Argument(help="Base URL of any OpenAI-style server.")],
    api_key: Annotated[str | None, option(COMMON, "KEY", "OPENAI_API_KEY by default.")] = None,
    model: Annotated[str | None, option(COMMON, "NAME", "The server's first by default.")] = None,
    endpoint: Annotated[str, option(SERVER, "NAME", "chat or completions.")] = "chat",
    timeout: Annotated[float, option(SERVER, "SECONDS", "For one request.")] = 600.0,
    max_retries: Annotated[int, option(SERVER, "N", "After 429, 5xx or no connection.")] = 0,
    concurrency: Annotated[
        list[int] | None,
        option(COMMON, "N", "Closed loop: so many users (repeatable). [1]", "--concurrency", "-c"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        option(COMMON, "X", "Open loop: requests a second (repeatable).", "--rate", "-r"),
    ] = None,
    burstiness: Annotated[
        str, option(LOAD, "X", "Open loop: 1 is Poisson, less comes in bursts, or: constant.")
    ] = "1",
    ramp_to: Annotated[
        float | None, option(LOAD, "X", "Open loop: the rate at the end, from --rate on.")
    ] = None,
    max_concurrency: Annotated[
        int | None, option(LOAD, "N", "Open loop: more than these wait at the client.")
    ] = None,
    sweep: Annotated[
        bool, option(LOAD, None, "Raise users (or --rate) until it is saturated.", "--sweep")
    ] = False,
    sweep_limit: Annotated[int, option(LOAD, "N", "The highest load a sweep tries.")] = 512,
    num_requests: Annotated[
        int | None, option(COMMON, "N", "For each load. [4 a user, 30 s]", "--num-requests", "-n")
    ] = None,
    seconds: Annotated[
        float | None, option(COMMON, "SECONDS", "Begin requests for so long, for each load.")
    ] = None,
    repeats: Annotated[int, option(LENGTH, "N", "Runs of each load; the median is shown.")] = 1,
    warmup: Annotated[int, option(LENGTH, "N", "Requests before, not counted.")] = 1,
    prompt_tokens: Annotated[
        int, option(COMMON, "N", "Length of a prompt, about; the median.")
    ] = 100,
    prompt_sigma: Annotated[float, option(TEXT, "X", "Log-normal spread; 0 is fixed.")] = 0.0,
    max_tokens: Annotated[int, option(COMMON, "N", "Length of an answer; the median.")] = 128,
    output_sigma: Annotated[float, option(TEXT, "X", "Log-normal spread; 0 is fixed.")] = 0.0,
    longest: Annotated[int, option(TEXT, "N", "No prompt and no answer is longer.")] = 4096,
    prefix_tokens: Annotated[int, option(TEXT, "N", "A shared prefix of this length.")] = 0,
    num_prefixes: Annotated[int, option(TEXT, "N", "So many different prefixes.")] = 1,
    prefix_share: Annotated[float, option(TEXT, "SHARE", "This share of requests has one.")] = 1.0,
    turns: Annotated[int, option(TEXT, "N", "Questions in a conversation.")] = 1,
    think_seconds: Annotated[float, option(TEXT, "SECONDS", "Before each further question.")] = 0.0,
    trace: Annotated[
        Path | None, option(TEXT, "FILE", "JSON lines with prompts and arrival times.")
    ] = None,
    seed: Annotated[int, option(TEXT, "N", "Of prompts and arrivals.")] = 0,
    temperature: Annotated[float, option(SAMPLING, "X", "0 is greedy.")] = 0.0,
    ignore_eos: Annotated[
        bool,
        option(SAMPLING, None, "Answers as long as asked. Not in OpenAI's API.", "--ignore-eos"),
    ] = False,
    param: Annotated[
        list[str] | None, option(SAMPLING, "NAME=JSON", "Another field (repeatable).")
    ] = None,
    goodput: Annotated[
        list[str] | None,
        option(
            RESULT,
            "NAME:MS",
            "A limit in ms: ttft:500, tpot:50, itl:200, e2e:9000 (repeatable).",
        ),
    ] = None,
    output: Annotated[
        Path | None, option(COMMON, "FILE", "Write the result here, as JSON.", "--output", "-o")
    ] = None,
    html: Annotated[Path | None, option(COMMON, *HTML)] = None,
    figures: Figures = None,
) -> None:
    """Send load to a server and report what its users would see."""
    from thirdeye.clients.loadtest.load_settings import LoadSettings
    from thirdeye.clients.loadtest.results.stats import Goals
    from thirdeye.clients.loadtest.workload.arrivals import CONSTANT
    from thirdeye.clients.loadtest.workload.prompts import Length, Mix
    from thirdeye.clients.target import Target

    with told(USAGE):
        if endpoint not in ("chat", "completions"):
            raise ValueError(f"'endpoint' must be chat or completions, got {endpoint!r}.")
        settings = LoadSettings(
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


@app.command(cls=GroupedCommand)
def compare(
    before: Saved,
    after: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Put two results side by side: is a change more than chance?"""
    from rich.console import Console

    from thirdeye.clients.loadtest.results.compare import show_changes
    from thirdeye.clients.loadtest.results.result import read_result

    with told(FAILED):
        show_changes(read_result(before), read_result(after), Console(highlight=False))


@app.command(cls=GroupedCommand)
def report(
    result: Saved,
    html: Html = None,
    figures: Figures = None,
) -> None:
    """Show a result again, and write its report and its figures."""
    from rich.console import Console

    from thirdeye.clients.loadtest.results.result import read_result
    from thirdeye.clients.loadtest.results.show import show_result

    with told(FAILED):
        read = read_result(result)
        show_result(read, Console(highlight=False))
        write_pictures(read, html, figures)


def write_pictures(result: dict[str, Any], html: Path | None, figures: Path | None) -> None:
    """Raises OSError, and ValueError where matplotlib is not installed."""
    from thirdeye.clients.loadtest.results.report import page

    if html:
        html.write_text(page(result))
    if figures:
        try:
            from thirdeye.clients.loadtest.results.figures import save_figures
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
    from thirdeye.clients.loadtest.results.result import write_result
    from thirdeye.clients.loadtest.results.show import show_result
    from thirdeye.clients.loadtest.run import event_loop, run

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
