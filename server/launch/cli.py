"""The command `thirdeye`. A command imports what it needs when it runs: --help stays quick."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thirdeye.clients.loadtest.cli import app as bench

app = typer.Typer(
    name="thirdeye",
    help="Serve GPT-family language models, and look inside them.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: complete option names at any width
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench)

CALM = 0.3  # the API's own default of 1 lets small models wander

ModelArgument = Annotated[
    str | None,
    typer.Argument(help="A catalog name, a directory, a .gguf file or a hub id. Default: smollm2."),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Base URL of any OpenAI-style server.")
]
KeyOption = Annotated[str | None, typer.Option("--api-key", help="Default: OPENAI_API_KEY.")]
TemperatureOption = Annotated[float, typer.Option(help="0 is greedy.")]
NameOption = Annotated[str | None, typer.Option("--model", help="Default: the server's first.")]


@app.command()
def serve(
    model: ModelArgument = None,
    host: Annotated[str | None, typer.Option(help="Address to bind. [127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to bind, 0 for any free one. [8000]")
    ] = None,
    root_path: Annotated[str | None, typer.Option(help="Path prefix behind a proxy.")] = None,
    served_model_name: Annotated[
        list[str] | None, typer.Option(help="Name(s) clients may use; the first is shown.")
    ] = None,
    api_key: Annotated[
        list[str] | None, typer.Option(help="Require a key (repeatable; better in a file).")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File of keys, one a line.")] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="Jinja file used instead of the checkpoint's.")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="Tokens of prompt and answer together. [the model's]")
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Requests in a batch. [64]")] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens in one step. [CPU: what takes 0.25 s, GPU: 2048]"),
    ] = None,
    admission: Annotated[
        str | None,
        typer.Option(help="preempt, or reserve: only what fits to its max_tokens. [preempt]"),
    ] = None,
    queue_timeout: Annotated[
        float | None, typer.Option(help="Seconds a request may wait for its turn, 0: any. [30]")
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds a request may take in all, 0: any. [600]")
    ] = None,
    kv_memory: Annotated[
        float | None,
        typer.Option(
            help="GiB of KV cache, of each rank. [CPU: 0.8, in float16 0.4; GPU: the rest]"
        ),
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Share of each GPU's memory to use in all. [0.9]")
    ] = None,
    kv_dtype: Annotated[
        str | None,
        typer.Option(help="Keys and values: auto, float32, float16; fp8 on a GPU. [auto]"),
    ] = None,
    prefix_caching: Annotated[
        bool | None,
        typer.Option("--prefix-caching/--no-prefix-caching", help="Reuse shared prefixes."),
    ] = None,
    speculation: Annotated[
        str | None, typer.Option(help="Guess ahead: ngram (prompt lookup) or off. [ngram]")
    ] = None,
    num_draft_tokens: Annotated[
        int | None, typer.Option(help="Most guesses for a request in a step. [15]")
    ] = None,
    max_tokens_with_drafts: Annotated[
        int | None, typer.Option(help="Guess only in steps of at most so many tokens. [16]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1. [auto]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16, float16. [auto]")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="auto, none, int8; on a GPU also int4, fp8. [auto]")
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(help="auto, native, blocked, triton, flashinfer, sdpa, reference. [auto]"),
    ] = None,
    cuda_graphs: Annotated[
        str | None, typer.Option(help="Decode by graphs, a step ahead: auto, on, off. [auto: GPU]")
    ] = None,
    native: Annotated[
        str | None, typer.Option(help="Kernels compiled on this machine: auto, off. [auto]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="The engine's CPU threads. [one a core]")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="process (isolated) or thread. [process]")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic", help="Same bits in any batch, on a GPU too (slower)."),
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(help="GPUs (on a CPU: processes) that share the model. [1]")
    ] = None,
    yes: Annotated[
        bool | None, typer.Option("--yes", "-y", help="Fetch the model without asking.")
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Seconds for running answers after SIGTERM. [30]")
    ] = None,
    sse_ping: Annotated[
        float | None, typer.Option(help="Seconds between keep-alive comments, 0 for none. [15]")
    ] = None,
    send_timeout: Annotated[
        float | None, typer.Option(help="Seconds a client may stop reading a stream. [30]")
    ] = None,
    step_timeout: Annotated[
        float | None,
        typer.Option(help="Restart an engine stuck in a step so long, 0 for never. [300]"),
    ] = None,
    lenient: Annotated[
        bool | None,
        typer.Option("--lenient", help="Name unknown fields in a header, do not refuse them."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Let pages of this origin call (repeatable; * is all).")
    ] = None,
    max_n: Annotated[int | None, typer.Option(help="Most samples of a prompt. [128]")] = None,
    max_stop: Annotated[int | None, typer.Option(help="Most stop strings. [4]")] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests of each key a minute, 0: any number. [0]")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Tokens of each key a minute, 0: any number. [0]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning, error. [info]")
    ] = None,
) -> None:
    """Start the server. Every option can also be set as THIRDEYE_<OPTION>, several values with
    commas between."""
    options = given(locals())
    from thirdeye.server.launch.serve_command import serve_command

    raise typer.Exit(serve_command(options))


@bench.command("engine")
def bench_engine(
    shape: Annotated[
        str, typer.Option(help="llama3-8b, qwen3-0.6b, gpt2-xl, smollm2-135m, or a checkpoint.")
    ] = "smollm2-135m",
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", "-b", min=1, help="Sequences. Repeatable. [1 8 64; on a CPU 1 8]"),
    ] = None,
    context: Annotated[
        list[int] | None,
        typer.Option("--context", "-c", min=1, help="Tokens. Repeatable. [512]"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed for each batch and context.")] = 32,
    workload: Annotated[
        int, typer.Option(min=0, help="Sequences of nano-vllm's workload (its own: 256), 0: none.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    attention: Annotated[
        str, typer.Option(help="auto, native, blocked, triton, flashinfer, sdpa, reference.")
    ] = "auto",
    cuda_graphs: Annotated[str, typer.Option(help="auto, on, off.")] = "auto",
    quantize: Annotated[
        str, typer.Option(help="auto, none, int8; on a GPU also int4, fp8.")
    ] = "none",
    kv_dtype: Annotated[str, typer.Option(help="auto, float32, float16; fp8 on a GPU.")] = "auto",
    prefill: Annotated[
        list[int] | None, typer.Option(min=1, help="Time a prompt of so many tokens. Repeatable.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Same bits in any batch: what does it cost?")
    ] = False,
    bandwidth: Annotated[
        float | None, typer.Option(help="The memory's, in GB/s. [measured by a copy]")
    ] = None,
) -> None:
    """Time the engine alone, with random weights of any shape. On a CPU --quantize auto is what
    serves there."""
    from thirdeye.server.bench.engine import run
    from thirdeye.server.bench.random_model import default_batches
    from thirdeye.server.bench.report import Plan

    speed = bandwidth * 1e9 if bandwidth else None
    try:
        grid = (batch or default_batches(device), context or [512])
        plan = Plan(
            *(shape, *grid, steps, workload, device, dtype, attention, speed, cuda_graphs),
            *(quantize, kv_dtype, prefill or [], deterministic),
        )
        for line in run(plan):
            typer.echo(line)
    except (ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


@app.command()
def chat(
    url: UrlOption = None,
    api_key: KeyOption = None,
    model: NameOption = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: TemperatureOption = CALM,
    plain: Annotated[bool, typer.Option("--plain", help="Show answers without Markdown.")] = False,
) -> None:
    """Chat in the terminal with a running server."""
    from thirdeye.clients.chat import run_chat

    params = {"temperature": temperature}
    raise typer.Exit(run_chat(url, api_key, model, system, params=params, is_plain=plain))


@app.command()
def complete(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; standard input if left out.")
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    model: NameOption = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: TemperatureOption = CALM,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text, without a chat.")] = False,
) -> None:
    """Answer one prompt on standard output."""
    from thirdeye.clients.complete import run_complete

    params = given({"max_tokens": max_tokens, "temperature": temperature})
    raise typer.Exit(run_complete(prompt, url, api_key, model, system, raw, params))


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="A catalog name (see `thirdeye models`).")
    ] = "smollm2",
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Say nothing if it is here.")
    ] = False,
) -> None:
    """Fetch a model into the cache."""
    from thirdeye.server.launch.commands import pull_model

    raise typer.Exit(pull_model(model, if_missing=if_missing))


@app.command()
def models() -> None:
    """List the models that can be pulled and those that are here."""
    from thirdeye.server.launch.commands import show_models

    raise typer.Exit(show_models())


@app.command()
def info(model: ModelArgument = None) -> None:
    """Describe a model: its shape, and its parameters part by part."""
    from thirdeye.server.launch.commands import show_info

    raise typer.Exit(show_info(model))


@app.command()
def doctor() -> None:
    """Show versions, devices and the cache: what a bug report needs."""
    from thirdeye.server.launch.commands import show_doctor

    raise typer.Exit(show_doctor())


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"thirdeye {installed('thirdeye-server')}")
        raise typer.Exit


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were set: the others are left to the environment and the defaults."""
    return {name: value for name, value in options.items() if value not in (None, [])}


def main() -> None:
    app(prog_name="thirdeye")


if __name__ == "__main__":
    main()
