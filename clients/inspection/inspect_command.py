"""`thirdeye inspect`: a text through the served model: a table, JSON, picture, notebook."""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from thirdeye.clients.client import Client
from thirdeye.clients.errors import ConnectionFailed, ThirdeyeError
from thirdeye.clients.inspection.inspect_notebook import write_notebook
from thirdeye.clients.terminal.reasons import in_options, no_server
from thirdeye.clients.terminal.screen import printable
from thirdeye.clients.types import Inspection

FAILED, USAGE = 1, 2
SHOWN = 8  # heads in a line


def run_inspect(
    text: str,
    base_url: str | None = None,
    api_key: str | None = None,
    model: str | None = None,
    compare: list[str] | None = None,
    sweep: str | None = None,
    json_file: Path | None = None,
    png_file: Path | None = None,
    notebook_file: Path | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Prints what the model makes of the text; the exit code. `sweep`: what is switched off, one
    after the other (`heads`, `mlps`, ...). The files get the whole answer, a picture of it, and
    what asks for it in Jupyter."""
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        if png_file is not None:
            check_matplotlib()
        with Client(base_url or None, api_key, model=model) as client:
            asked: dict[str, Any] = {"compare": compare} if compare else {}
            asked |= {"model": model} if model else {}
            read = client.inspect(text, include=["surprisal", "attribution"], layers=[0], **asked)
            lines = [*reading_lines(read)]
            swept = None
            if sweep is not None:
                asked["compare"] = [token["id"] for token in read.raw["attribution"]["tokens"]]
                swept = client.inspect(text, sweep={"over": sweep}, **asked)
                lines += _swept(swept)
        print(*(printable(line) for line in lines), sep="\n", file=out)
        if json_file is not None:
            whole = {"read": read.raw} | ({"sweep": swept.raw} if swept else {})
            json_file.write_text(json.dumps(whole, indent=1) + "\n")
        if png_file is not None:
            from thirdeye.clients.inspection.inspect_picture import draw  # noqa: PLC0415

            draw(read, swept, sweep, png_file)
        if notebook_file is not None:
            write_notebook(notebook_file, text, client.target.base_url, model, compare, sweep)
        return 0
    except ConnectionFailed:
        print(no_server(base_url), file=err)
    except (ThirdeyeError, OSError) as error:
        print(printable(str(error)), file=err)
    except ValueError as error:
        print(in_options(error), file=err)
        return USAGE
    return FAILED


def check_matplotlib() -> None:
    """Raises ValueError where it is not installed: before anything is computed."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise ValueError(
            f"--png needs matplotlib: {sys.executable} -m pip install matplotlib"
        ) from None


def reading_lines(found: Inspection) -> Iterator[str]:
    """Tokens with their surprisal, the next token, and what its logit is the sum of."""
    width = max(len(repr(token)) for token in found.tokens)
    told = found.raw["surprisal"]
    yield f"{'token':{width}}  surprisal  rank"
    yield repr(found.tokens[0])
    for token, nats, rank in zip(found.tokens[1:], told["nats"], told["rank"], strict=True):
        yield f"{token!r:{width}}  {nats:9.2f}  {rank:,}"
    likely = found.next_token[0]
    guesses = [f"{guess['token']!r} {math.exp(guess['logprob']):.1%}" for guess in likely]
    yield ""
    yield f"next token   {', '.join(guesses)}"
    parts = found.raw["attribution"]
    names = [repr(token["token"]) for token in parts["tokens"]]
    of = f"logit of {names[0]}" + (f" less {names[1]}'s" if len(names) > 1 else "")
    heads = [
        (value, f"L{layer}H{head}")
        for layer, row in enumerate(parts["heads"])
        for head, value in enumerate(row)
    ]
    mlps = [(value, f"L{layer}") for layer, value in enumerate(parts["mlp"])]
    yield f"{of} is {parts['logit']:+.3f}, the sum of"
    apart = {"tokens", "logit", "scale", "embed", "positions", "heads", "mlp", "state"}
    others = sum(_sum(part) for name, part in parts.items() if name not in apart)
    embedded = parts["embed"] + parts["positions"]
    yield f"  embeddings {embedded:+.3f}, biases and roundings {others:+.3f}"
    yield f"  heads      {sum(value for value, _ in heads):+.3f}: {_largest(heads)}"
    if any(parts["state"]):
        states = [(value, f"L{layer}") for layer, value in enumerate(parts["state"])]
        yield f"  states     {sum(value for value, _ in states):+.3f}: {_largest(states)}"
    yield f"  MLPs       {sum(value for value, _ in mlps):+.3f}: {_largest(mlps)}"


def _sum(value: Any) -> float:
    return float(sum(value)) if isinstance(value, list) else float(value)


def _largest(parts: Iterable[tuple[float, str]]) -> str:
    best = sorted(parts, key=lambda part: -abs(part[0]))[:SHOWN]
    return ", ".join(f"{name} {value:+.2f}" for value, name in best) + ", …"


def _swept(found: Inspection) -> Iterator[str]:
    """What mattered most, and how much of it stands above the noise."""
    variants, noise = found.raw["variants"], found.raw["noise"]
    above = sum(variant["is_above_noise"] for variant in variants)
    yield ""
    yield (
        f"switched off one by one: {above} of {len(variants)} change the next token by more than "
        f"the noise (KL {noise['kl_max']:.1e})"
    )
    for variant in sorted(variants, key=lambda variant: -variant["kl"])[:SHOWN]:
        places = {"layer": "L", "head": "H", "kv_head": "KV", "position": "@"}
        name = "".join(f"{short}{variant[dim]}" for dim, short in places.items() if dim in variant)
        yield f"  {name:8} KL {variant['kl']:.3f}"
