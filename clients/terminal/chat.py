"""`thirdeye chat`: a conversation in the terminal with any OpenAI-compatible server.

Answers appear as they are made, as Markdown. Ctrl-C stops the answer and not the program, Ctrl-D
leaves. Where the output is no terminal there is no prompt, no greeting, no colour and no layout:
the answers alone, and what `/stats` and its like were typed for, so that a pipe works too.
`NO_COLOR` is honoured by rich. Nothing is written to disk unless `/save` is typed.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from thirdeye.clients.client import Client
from thirdeye.clients.core import first_model
from thirdeye.clients.errors import ConnectionFailed, ContextLengthExceeded, ThirdeyeError
from thirdeye.clients.terminal.calm import calmed
from thirdeye.clients.terminal.conversation import SavedConversation
from thirdeye.clients.terminal.markdown import MarkdownView, PlainView, View
from thirdeye.clients.terminal.reasons import in_options, no_server
from thirdeye.clients.terminal.screen import describe_speed, printable, read_message, unechoed
from thirdeye.clients.types import Model

ReadLine = Callable[[str], str]

HELP = '''\
/system TEXT   set the system prompt; without TEXT show it; - removes it
/clear         forget the conversation, keep the system prompt
/save FILE     write the conversation and system prompt to a new file, as JSON
/load FILE     go on with one that was saved
/model NAME    ask another model of this server; without NAME list them
/stats         tokens and speed of the last answer
/quit          leave, as do /exit and Ctrl-D
Ctrl-C stops an answer.
A backslash at its end continues a line; """ opens and closes a block.
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
    is_plain: bool = False,
    is_calm: bool = False,
) -> int:
    """Chats until the input ends; returns the exit code. `params` go into every request, with
    `is_calm` those of `thirdeye.clients.terminal.calm` too.

    `is_plain` shows answers as they are; otherwise a terminal shows them as Markdown.

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
            params = calmed(client, params or {}) if is_calm else params or {}
            view = MarkdownView if console.is_terminal and not is_plain else PlainView
            return Chat(client, system, console, errors, keyboard, params, view).run()
    except ConnectionFailed:
        _complain(errors, no_server(base_url))
        return 1
    except ThirdeyeError as error:
        _complain(errors, str(error))
        return 1
    except ValueError as error:
        _complain(errors, in_options(error))
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
        view: Callable[[Console], View],
    ) -> None:
        self.messages: list[dict[str, str]] = []  # without the system prompt
        self.system = system
        self._client = client
        self._console = console
        self._errors = errors
        self._read_line = read_line
        self._params = params
        self._view = view
        self._speed = "No answer yet."
        self._has_failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._reply(HELP),
            "/system": self._set_system,
            "/clear": self._clear,
            "/save": self._save,
            "/load": self._load,
            "/model": self._choose_model,
            "/stats": lambda _: self._reply(self._speed),
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
        view, has_text, is_thinking = self._view(self._console), False, False
        num_chunks = 0
        try:
            with unechoed(), closing(view), stream:
                for chunk in stream:
                    num_chunks += bool(chunk.text or chunk.thought)
                    if chunk.thought and not is_thinking:
                        is_thinking = True
                        self._note("(thinking)")
                    if chunk.text and not has_text:
                        has_text, first = True, time.perf_counter()
                    view.write(printable(chunk.text))
        except KeyboardInterrupt:
            self._note("(stopped)")
        except (ThirdeyeError, UnicodeEncodeError) as error:
            self._fail(error)
            return
        answer = stream.answer()
        total = time.perf_counter() - start
        self._speed = describe_speed(answer, first - start, total, num_chunks)
        if answer.text:
            self.messages += [question, answer.message]

    def _fail(self, error: Exception) -> None:
        self._has_failed = True
        reason = "The message is not UTF-8." if isinstance(error, UnicodeError) else str(error)
        hint = " /clear starts over." if isinstance(error, ContextLengthExceeded) else ""
        _complain(self._errors, reason + hint)

    def _set_system(self, text: str) -> None:
        if text:
            self.system = None if text == "-" else text
        say = self._note if text else self._reply
        say(f"System prompt: {self.system or 'none'}")

    def _clear(self, _: str) -> None:
        self.messages.clear()
        self._note("The conversation is empty.")

    def _save(self, name: str) -> None:
        saved = SavedConversation(self.messages, self.system, self._client.model)
        self._with_file(name, saved.write, f"Saved to {name}.")

    def _load(self, name: str) -> None:
        def load(path: Path) -> None:
            loaded = SavedConversation.read(path)
            self.messages, self.system = loaded.messages, loaded.system

        self._with_file(name, load, f"Loaded {name}; the next answer goes on from there.")

    def _with_file(self, name: str, work: Callable[[Path], None], done: str) -> None:
        try:
            work(Path(name).expanduser())
        except FileExistsError:
            _complain(self._errors, f"{name} is there already: choose another name.")
        except OSError as error:
            _complain(self._errors, f"{name or 'No file'}: {error.strerror or error}")
        except ValueError as error:
            _complain(self._errors, str(error))
        else:
            self._note(done)

    def _choose_model(self, name: str) -> None:
        try:
            models = self._client.models()
        except ThirdeyeError as error:
            _complain(self._errors, str(error))
            return
        served = [model.id for model in models]
        if name and name not in served:
            _complain(self._errors, f"No model {name} here: {', '.join(served)}.")
            return
        self._client.model = name or self._client.model
        shown = (f"{'* ' if m.id == self._client.model else '  '}{m.id}{_state(m)}" for m in models)
        say = self._note if name else self._reply
        say("\n".join(shown))

    def _reply(self, text: str) -> None:
        """What a command was typed for, which a pipe gets as well."""
        self._console.out(printable(text), style="dim", highlight=False)

    def _note(self, text: str) -> None:
        """What the program itself says: for people at a terminal, not for a pipe."""
        if self._console.is_terminal:
            self._reply(text)


def _state(model: Model) -> str:
    """Of a model that is not loaded, where a server tells."""
    state = model.raw.get("state", "ready")
    return "" if state == "ready" else f"  ({state})"


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
