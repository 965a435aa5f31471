"""`thirdeye complete`: one prompt in, the answer as plain text out, for pipes and scripts.

The prompt is an argument or the standard input, without the newline that ends it. The text
streams to the standard output as it is made and ends with a newline; everything else goes to the
standard error.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TextIO

from thirdeye.clients.client import Client, Stream
from thirdeye.clients.errors import ConnectionFailed, ThirdeyeError
from thirdeye.clients.terminal.calm import CALM, calmed
from thirdeye.clients.terminal.reasons import in_options, no_server
from thirdeye.clients.terminal.screen import printable

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141  # the last two as a shell reports them


def run_complete(
    prompt: str | None = None,
    base_url: str | Sequence[str] | None = None,
    api_key: str | None = None,
    model: str | None = None,
    system: str | None = None,
    raw: bool = False,
    params: Mapping[str, Any] | None = None,
    stdin: BinaryIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    is_calm: bool = False,
    is_resumed: bool = False,
) -> int:
    """Writes one answer and returns the exit code.

    0: the whole answer was written. 1: the server is not there, refused or failed. 2: no usable
    prompt or URL. 130: Ctrl-C. 141: the reader of the output left. `raw` continues the prompt by
    `/v1/completions`, without any chat template; `params` go into the request (`max_tokens`,
    ...), with `is_calm` those of `thirdeye.clients.terminal.calm` too. With `is_resumed` the answer
    goes on at the next of several URLs when a server goes away.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        text = _prompt(prompt, stdin or sys.stdin.buffer)
        with Client(base_url or None, api_key, model=model) as client:
            params = params or {}
            if is_calm:  # who may ask several does not depend on what the first one suggests
                params = {**CALM, **params} if is_resumed else calmed(client, params)
            _write(_stream(client, text, system, raw, params, resume=is_resumed), out)
        return 0
    except ConnectionFailed:
        print(no_server(base_url if isinstance(base_url, str | None) else base_url[0]), file=err)
        return FAILED
    except ThirdeyeError as error:
        print(printable(str(error)), file=err)
        return FAILED
    except ValueError as error:
        print(in_options(error), file=err)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _mute(out)
        return BROKEN_PIPE


def _prompt(prompt: str | None, stdin: BinaryIO) -> str:
    """Raises ValueError for a prompt that is empty or not UTF-8."""
    try:
        text = stdin.read().decode() if prompt is None else prompt
        text.encode()  # an argument may hold bytes that are no text
    except UnicodeError:
        raise ValueError("The prompt is not UTF-8.") from None
    if prompt is None:
        text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("The prompt is empty: give it as an argument or on the standard input.")
    return text


def _stream(
    client: Client,
    text: str,
    system: str | None,
    raw: bool,
    params: Mapping[str, Any],
    *,
    resume: bool = False,
) -> Stream[Any]:
    if raw and system:
        raise ValueError("'system' needs a chat: it cannot go with 'raw'.")
    if raw:
        return client.stream(text, resume=resume, **params)
    messages = [{"role": "system", "content": system}] if system else []
    return client.stream_chat(
        [*messages, {"role": "user", "content": text}], resume=resume, **params
    )


def _write(stream: Stream[Any], out: TextIO) -> None:
    """A terminal gets no control characters from the model, a pipe gets the text as it is."""
    is_terminal = out.isatty()
    with stream:
        for chunk in stream:
            out.write(printable(chunk.text) if is_terminal else chunk.text)
            out.flush()
    out.write("\n")
    out.flush()


def _mute(out: TextIO) -> None:
    """Python flushes its output once more at exit, and would complain about the closed pipe."""
    if out is sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
