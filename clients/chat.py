"""`thirdeye chat`: a conversation in the terminal with any OpenAI-compatible server.

Answers appear as they are made. Ctrl-C stops the answer and not the program, Ctrl-D leaves. Where
the output is no terminal there is no prompt, no greeting and no colour: the answers alone, so
that a pipe works too. `NO_COLOR` is honoured by rich. Nothing is written to disk.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from rich.console import Console

from clients.client import Client
from clients.core import first_model
from clients.errors import ConnectionFailed, ContextLengthExceeded, ThirdeyeError
from clients.target import Target
from clients.terminal import describe_speed, printable, read_message

ReadLine = Callable[[str], str]

HELP = '''\
/system TEXT   set the system prompt; without TEXT show it; "/system -" removes it
/clear         forget the conversation, keep the system prompt
/stats         speed of the last answer
/exit          leave, as does Ctrl-D
Ctrl-C stops an answer. A backslash at its end continues a line; """ opens and closes a block.
A message that begins with a slash is sent with a space in front.'''


def run_chat(
    base_url: str | None = None,
    api_key: str | None = None,
    model: str | None = None,
    system: str | None = None,
    console: Console | None = None,
    errors: Console | None = None,
    read_line: ReadLine | None = None,
    params: Mapping[str, Any] | None = None,
) -> int:
    """Chats until the input ends; returns the exit code. `params` go into every request.

    1: no server, no model, or (in a pipe) an answer that failed. 2: the URL is none. `console`
    takes the conversation, `errors` what goes wrong, `read_line` gives a line for a prompt or
    raises EOFError.
    """
    console = console or Console(highlight=False)
    errors = errors or Console(stderr=True, highlight=False)
    try:
        model = model or _served_model(base_url, api_key)
        with Client(base_url, api_key, model=model) as client:
            keyboard = read_line or _keyboard()
            return Chat(client, system, console, errors, keyboard, params or {}).run()
    except ConnectionFailed:
        url = Target.find(base_url).base_url
        _complain(errors, f"No server answers at {url}. Start one with: thirdeye serve")
        return 1
    except ThirdeyeError as error:
        _complain(errors, str(error))
        return 1
    except ValueError as error:
        _complain(errors, str(error))
        return 2


class Chat:
    """One conversation: what has been said, and the loop that goes on with it."""

    def __init__(
        self,
        client: Client,
        system: str | None,
        console: Console,
        errors: Console,
        read_line: ReadLine,
        params: Mapping[str, Any],
    ) -> None:
        self.messages: list[dict[str, str]] = []  # without the system prompt
        self.system = system
        self._client = client
        self._console = console
        self._errors = errors
        self._read_line = read_line
        self._params = params
        self._speed = "No answer yet."
        self._has_failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._note(HELP),
            "/system": self._set_system,
            "/clear": self._clear,
            "/stats": lambda _: self._note(self._speed),
        }

    def run(self) -> int:
        self._greet()
        while True:
            try:
                text = self._read()
                if text.split()[:1] in (["/exit"], ["/quit"]):
                    break
                self._take(text)
            except KeyboardInterrupt:
                self._note("\nCtrl-D or /exit leaves.")
            except EOFError:
                self._note("")
                break
        return 1 if self._has_failed and not self._console.is_terminal else 0

    def _greet(self) -> None:
        url = self._client.target.base_url
        self._note(f"{self._client.model} at {url}. /help shows the commands, Ctrl-D leaves.")

    def _read(self) -> str:
        prompts = ("> ", ". ") if self._console.is_terminal else ("", "")
        return read_message(self._read_line, *prompts)

    def _take(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if not text.strip():
            return
        if not text.startswith("/"):
            self._answer(text.strip())
        elif name in self._commands:
            self._commands[name](rest.strip())
        else:
            _complain(self._errors, f"Unknown command {name}: /help lists what there is.")

    def _answer(self, text: str) -> None:
        """Streams one answer. It joins the conversation if it ended well or was stopped by hand."""
        question = {"role": "user", "content": text}
        system = [{"role": "system", "content": self.system}] if self.system else []
        stream = self._client.stream_chat([*system, *self.messages, question], **self._params)
        start = first = time.perf_counter()
        has_text = False
        try:
            with stream:
                for chunk in stream:
                    if chunk.text and not has_text:
                        has_text, first = True, time.perf_counter()
                    self._console.out(printable(chunk.text), end="", highlight=False)
        except KeyboardInterrupt:
            self._note("\n(stopped)")
        except (ThirdeyeError, UnicodeEncodeError) as error:
            self._fail(error, has_text)
            return
        else:
            self._console.out("")
        answer = stream.answer()
        self._speed = describe_speed(answer, first - start, time.perf_counter() - start)
        if answer.text:
            self.messages += [question, answer.message]

    def _fail(self, error: Exception, has_text: bool) -> None:
        self._has_failed = True
        if has_text:
            self._console.out("")
        reason = "The message is not UTF-8." if isinstance(error, UnicodeError) else str(error)
        hint = " /clear starts over." if isinstance(error, ContextLengthExceeded) else ""
        _complain(self._errors, reason + hint)

    def _set_system(self, text: str) -> None:
        if text:
            self.system = None if text == "-" else text
        self._note(f"System prompt: {self.system or 'none'}")

    def _clear(self, _: str) -> None:
        self.messages.clear()
        self._note("The conversation is empty.")

    def _note(self, text: str) -> None:
        """What the program itself says: for people at a terminal, not for a pipe."""
        if self._console.is_terminal:
            self._console.out(printable(text), style="dim", highlight=False)


def _served_model(base_url: str | None, api_key: str | None) -> str:
    """The server's first model; asked without retries, so that a missing server is told at once."""
    with Client(base_url, api_key, timeout=10.0, max_retries=0) as client:
        return first_model(client.models())


def _keyboard() -> ReadLine:
    """`input`, which edits lines and remembers them once readline is loaded."""
    with suppress(ImportError):  # not on Windows
        import_module("readline")
    return input


def _complain(errors: Console, text: str) -> None:
    errors.out(printable(text), style="red", highlight=False)
