"""The command `thirdeye`. A command imports what it needs when it runs: --help stays quick."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from thirdeye.clients.grouped_help import GroupedCommand
from thirdeye.clients.loadtest.cli import app as bench
from thirdeye.server.bench.command import bench_engine
from thirdeye.server.cluster.cluster_cli import app as cluster
from thirdeye.server.eval.eval_command import app as evaluation
from thirdeye.server.settings.options import takes_settings

app = typer.Typer(
    name="thirdeye",
    help="Serve GPT-family language models, and look inside them.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: complete option names at any width
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

bench.command("engine", cls=GroupedCommand)(bench_engine)
app.add_typer(bench)
app.add_typer(evaluation)
app.add_typer(cluster)

ModelArgument = Annotated[
    str | None,
    typer.Argument(help="A catalog name, a directory, a .gguf file or a hub id. [smollm2]"),
]
SERVER, ANSWER, HUB = "The server", "The answer", "A model of the hub"  # groups in --help


def grouped(group: str, value: str | None, text: str, *names: str) -> OptionInfo:
    """An option of a group; `value` is its placeholder."""
    made: OptionInfo = typer.Option(*names, help=text, metavar=value, rich_help_panel=group)
    return made


HubFileOption = Annotated[
    str | None, grouped(HUB, "NAME", "Which GGUF file of the hub's repository.")
]
RevisionOption = Annotated[
    str | None, grouped(HUB, "NAME", "Branch, tag or commit on the hub. [main]")
]
UrlOption = Annotated[str | None, grouped(SERVER, "URL", "Base URL of any OpenAI-style server.")]
KeyOption = Annotated[str | None, grouped(SERVER, "KEY", "OPENAI_API_KEY by default.")]
NameOption = Annotated[
    str | None, grouped(SERVER, "NAME", "The server's first by default.", "--model")
]
SystemOption = Annotated[str | None, grouped(ANSWER, "TEXT", "System prompt.")]
TemperatureOption = Annotated[
    float | None, grouped(ANSWER, "X", "0 is greedy. [the model's own, else 0.3]")
]
PenaltyOption = Annotated[
    float | None,
    grouped(ANSWER, "X", "-2 to 2, against repeats. [the model's own, else 0.3]"),
]


@app.command(cls=GroupedCommand)
@takes_settings
def serve(**options: Any) -> None:
    """Start the server. Every option can also be set as THIRDEYE_<OPTION>, several values with
    commas between: docs/settings.md tells all of them."""
    from thirdeye.server.launch.commands.serve_command import serve_command

    raise typer.Exit(serve_command(given(options)))


@app.command(cls=GroupedCommand)
def chat(
    url: UrlOption = None,
    api_key: KeyOption = None,
    model: NameOption = None,
    system: SystemOption = None,
    temperature: TemperatureOption = None,
    frequency_penalty: PenaltyOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="Show answers without Markdown.")] = False,
) -> None:
    """Chat in the terminal with a running server."""
    from thirdeye.clients.terminal.chat import run_chat

    params = given({"temperature": temperature, "frequency_penalty": frequency_penalty})
    raise typer.Exit(
        run_chat(url, api_key, model, system, params=params, is_plain=plain, is_calm=True)
    )


@app.command(cls=GroupedCommand)
def complete(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; standard input if left out.")
    ] = None,
    url: Annotated[
        list[str] | None,
        grouped(SERVER, "URL", "Base URL of any OpenAI-style server; several: --resume."),
    ] = None,
    api_key: KeyOption = None,
    model: NameOption = None,
    system: SystemOption = None,
    max_tokens: Annotated[int | None, grouped(ANSWER, "N", "Most tokens of an answer.")] = None,
    temperature: TemperatureOption = None,
    seed: Annotated[
        int | None, grouped(ANSWER, "N", "The same answer again, if one is given.")
    ] = None,
    frequency_penalty: PenaltyOption = None,
    raw: Annotated[
        bool, grouped(ANSWER, None, "Continue the text, without a chat.", "--raw")
    ] = False,
    resume: Annotated[
        bool,
        grouped(
            SERVER,
            None,
            "Go on at the next --url if one goes away; greedy, or with a seed.",
            "--resume",
        ),
    ] = False,
) -> None:
    """Answer one prompt on standard output."""
    from thirdeye.clients.terminal.complete import run_complete

    params = given(
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "frequency_penalty": frequency_penalty,
        }
    )
    raise typer.Exit(
        run_complete(
            prompt, url, api_key, model, system, raw, params, is_calm=True, is_resumed=resume
        )
    )


@app.command(name="inspect", cls=GroupedCommand)
def inspect_text(
    text: Annotated[str, typer.Argument(help="The text to look into.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    model: NameOption = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN", help="Whose logit to take apart; two: their difference."),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Switch off heads, kv_heads, mlps or attentions."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole answer here.")
    ] = None,
    png_file: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Draw it (needs matplotlib).")
    ] = None,
    notebook_file: Annotated[
        Path | None,
        typer.Option("--notebook", metavar="FILE", help="Write what asks for it in Jupyter."),
    ] = None,
) -> None:
    """Look into a text with a running server: surprisal, next token, what its logit is made of."""
    from thirdeye.clients.inspection.inspect_command import run_inspect

    files = (json_file, png_file, notebook_file)
    raise typer.Exit(run_inspect(text, url, api_key, model, compare, sweep, *files))


@app.command(cls=GroupedCommand)
def pull(
    model: Annotated[
        str, typer.Argument(help="A catalog name, or a hub id like org/name:Q4_K_M.")
    ] = "smollm2",
    hf_file: HubFileOption = None,
    revision: RevisionOption = None,
    if_missing: Annotated[
        bool,
        typer.Option("--if-missing", help="Say nothing, and check only the size, if it is here."),
    ] = False,
) -> None:
    """Fetch a model into the cache; one that is there is checked by its hash, and repaired."""
    from thirdeye.server.launch.commands.pull_command import pull_model

    raise typer.Exit(pull_model(model, if_missing=if_missing, file=hf_file, revision=revision))


@app.command("list", cls=GroupedCommand)
def list_() -> None:
    """List what is here, with format, size and path: catalog models, files in the models folder,
    hub snapshots. Also called `models`."""
    from thirdeye.server.launch.commands.offline import show_models

    raise typer.Exit(show_models())


@app.command(cls=GroupedCommand)
def models() -> None:
    """The same as `list`."""
    list_()


@app.command(cls=GroupedCommand)
def rm(
    model: Annotated[str, typer.Argument(help="A name that `thirdeye list` shows.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete a model from the models folder, and from nowhere else."""
    from thirdeye.server.launch.commands.offline import remove_model

    raise typer.Exit(remove_model(model, yes=yes))


@app.command(cls=GroupedCommand)
def info(
    model: ModelArgument = None, hf_file: HubFileOption = None, revision: RevisionOption = None
) -> None:
    """Describe a model without loading it: shape, tensor types, chat template, memory at each
    --quantize, parameters part by part, and whether it will serve (exit status 1 if not)."""
    from thirdeye.server.launch.commands.info_command import show_info

    raise typer.Exit(show_info(model, hf_file, revision))


@app.command(cls=GroupedCommand)
def doctor() -> None:
    """Show versions, devices and the cache: what a bug report needs."""
    from thirdeye.server.launch.commands.offline import show_doctor

    raise typer.Exit(show_doctor())


@app.command(cls=GroupedCommand)
def rank(
    join: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="`--rank-address` of the server to join.")
    ],
    secret_file: Annotated[
        str, typer.Option(metavar="FILE", help="The same as its --rank-secret-file.")
    ],
    model: ModelArgument = None,
) -> None:
    """Compute a share of a model that a server on another host serves, until it is stopped."""
    from thirdeye.server.launch.commands.rank_command import run_rank

    raise typer.Exit(run_rank(model, join, secret_file))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from thirdeye.server.version import VERSION

        typer.echo(f"thirdeye {VERSION}")
        raise typer.Exit


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were set: the others are left to the environment and the defaults."""
    return {name: value for name, value in options.items() if value not in (None, [])}


def main() -> None:
    app(prog_name="thirdeye")


if __name__ == "__main__":
    main()
