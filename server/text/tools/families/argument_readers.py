"""Arguments as the families write them, turned into JSON on the way.

Each reader is fed one character at a time and says what it adds to the JSON, so a cut of the text
cannot matter. It begins behind the call's head and is done with the character that ends the
arguments.
"""

import ast
import json
from collections.abc import Callable, Generator
from typing import Protocol

from thirdeye.server.text.tools.families.call_form import Arguments
from thirdeye.server.text.tools.families.typed_values import Schema, as_json, schema_of
from thirdeye.server.text.tools.frame import ObjectEnd

_QUOTE = '<|"|>'
MAX_DEPTH = 64  # of values in values; deeper ones are read as words
_BARE = {"True": "true", "False": "false", "None": "null"}
Reading = Generator[None, str, None]  # takes a character each time it is resumed


class ArgumentReader(Protocol):
    is_done: bool

    def feed(self, char: str) -> str: ...


def make_argument_reader(kind: Arguments, parameters: Schema) -> ArgumentReader:
    match kind:
        case Arguments.JSON:
            return JsonReader()
        case Arguments.XML:
            return XmlReader(parameters)
        case Arguments.PAIRS:
            return PairsReader(parameters)
        case Arguments.GEMMA:
            return GemmaReader()
        case Arguments.PYTHON:
            return PythonReader()


class JsonReader:
    """JSON already; its first brace belongs to the head."""

    def __init__(self) -> None:
        self._object = ObjectEnd()
        self._is_begun = False
        self.is_done = False

    def feed(self, char: str) -> str:
        self.is_done = self._object.feed(char)
        text = char if self._is_begun else "{" + char
        self._is_begun = True
        return text


class _WrittenReader:
    """What the others share: a coroutine that reads, and the JSON it has written."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self.is_done = False
        self._reading = self._read()
        next(self._reading)

    def feed(self, char: str) -> str:
        try:
            self._reading.send(char)
        except StopIteration:
            self.is_done = True
        text = "".join(self._out)
        self._out.clear()
        return text

    def _read(self) -> Reading:
        raise NotImplementedError

    def _write(self, text: str) -> None:
        self._out.append(text)

    def _until(self, *marks: str) -> Generator[None, str, tuple[str, str]]:
        """The text up to the first of the marks, and which it was."""
        text = ""
        while True:
            text += yield
            for mark in marks:
                if text.endswith(mark):
                    return text[: -len(mark)], mark


class _TypedReader(_WrittenReader):
    """Arguments of bare texts; each is written once it is whole."""

    def __init__(self, parameters: Schema) -> None:
        self._parameters = parameters
        self._num = 0
        super().__init__()

    def _argument(self, key: str, text: str) -> None:
        value = as_json(text, schema_of(self._parameters, key))
        before = ", " if self._num else "{"
        self._write(f"{before}{json.dumps(key, ensure_ascii=False)}: {value}")
        self._num += 1

    def _end(self) -> None:
        self._write("}" if self._num else "{}")


class XmlReader(_TypedReader):
    """`<parameter=KEY>`, VALUE, `</parameter>` until `</function>`. One line break on each side of
    a value is no part of it."""

    def _read(self) -> Reading:
        while True:
            _, mark = yield from self._until("<parameter=", "</function>")
            if mark == "</function>":
                return self._end()
            key, _ = yield from self._until(">")
            value, _ = yield from self._until("</parameter>")
            self._argument(key.strip(), value.removeprefix("\n").removesuffix("\n"))


class PairsReader(_TypedReader):
    """`<arg_key>KEY</arg_key>\\n<arg_value>VALUE</arg_value>` until `</tool_call>`; the first `<`
    belongs to the head."""

    def _read(self) -> Reading:
        _, mark = yield from self._until("arg_key>", "/tool_call>")
        while not mark.endswith("/tool_call>"):
            key, _ = yield from self._until("</arg_key>")
            yield from self._until("<arg_value>")
            value, _ = yield from self._until("</arg_value>")
            self._argument(key.strip(), value)
            _, mark = yield from self._until("<arg_key>", "</tool_call>")
        self._end()


class _NestedReader(_WrittenReader):
    """Values in values, in a notation of their own: written as they come."""

    _depth = 0

    def _nested(self, begin: str, end: str, read: Callable[[str, str], Reading]) -> Reading:
        self._write(begin)
        self._depth += 1
        yield from read(end, (yield))
        self._depth -= 1
        self._write(end)

    def _skip(self, char: str) -> Generator[None, str, str]:
        """The next character that is no white space, `char` being the first."""
        while char.isspace():
            char = yield
        return char

    def _members(self, end: str, char: str) -> Reading:
        """Members of an object up to `end`; `char` is the first character."""
        raise NotImplementedError

    def _items(self, end: str, char: str) -> Reading:
        """Items of a list up to `end`."""
        char = yield from self._skip(char)
        is_first = True
        while char != end:
            if not is_first:
                self._write(", ")
            char = yield from self._value(char, end)
            char = yield from self._skip(char)
            if char == ",":
                char = yield from self._skip((yield))
            is_first = False

    def _value(self, char: str, ends: str) -> Generator[None, str, str]:
        """One value from its first character on; gives the character behind it."""
        raise NotImplementedError

    def _bare(self, char: str, ends: str) -> Generator[None, str, str]:
        """A number or a word; what is neither is a string."""
        text = ""
        while char not in ends:
            text += char
            char = yield
        text = text.strip()
        try:
            json.loads(text)
        except ValueError:
            text = _BARE.get(text) or json.dumps(text, ensure_ascii=False)
        self._write(text)
        return char


class GemmaReader(_NestedReader):
    """`a:1,b:<|"|>x<|"|>,c:{d:[true]}}`: keys are bare, strings stand between marks."""

    def _read(self) -> Reading:
        self._write("{")
        yield from self._members("}", (yield))
        self._write("}")

    def _members(self, end: str, char: str) -> Reading:
        char = yield from self._skip(char)
        is_first = True
        while char != end:
            key = char
            while not key.endswith(":"):
                key += yield
            key = key[:-1].strip().removeprefix(_QUOTE).removesuffix(_QUOTE)
            self._write(("" if is_first else ", ") + json.dumps(key, ensure_ascii=False) + ": ")
            char = yield from self._value((yield from self._skip((yield))), ",}")
            char = yield from self._skip(char)
            if char == ",":
                char = yield from self._skip((yield))
            is_first = False

    def _value(self, char: str, ends: str) -> Generator[None, str, str]:
        del ends  # the same everywhere
        if char == "<":
            yield from self._until(_QUOTE[1:])
            text, _ = yield from self._until(_QUOTE)
            self._write(json.dumps(text, ensure_ascii=False))
        elif char == "{" and self._depth < MAX_DEPTH:
            yield from self._nested("{", "}", self._members)
        elif char == "[" and self._depth < MAX_DEPTH:
            yield from self._nested("[", "]", self._items)
        else:
            return (yield from self._bare(char, ",}]"))
        return (yield)


class PythonReader(_NestedReader):
    """`a=1, b="x", c={"d": [True]})`: keywords and Python's literals."""

    def _read(self) -> Reading:
        self._write("{")
        char = yield from self._skip((yield))
        is_first = True
        while char != ")":
            key = char
            while not key.endswith("="):
                key += yield
            self._write(("" if is_first else ", ") + json.dumps(key[:-1].strip()) + ": ")
            char = yield from self._value((yield from self._skip((yield))), ",)")
            char = yield from self._skip(char)
            if char == ",":
                char = yield from self._skip((yield))
            is_first = False
        self._write("}")

    def _members(self, end: str, char: str) -> Reading:
        char = yield from self._skip(char)
        is_first = True
        while char != end:
            self._write("" if is_first else ", ")
            char = yield from self._value(char, ":")
            char = yield from self._skip(char)
            self._write(": ")
            char = yield from self._value((yield from self._skip((yield))), ",}")
            char = yield from self._skip(char)
            if char == ",":
                char = yield from self._skip((yield))
            is_first = False

    def _value(self, char: str, ends: str) -> Generator[None, str, str]:
        if char in "\"'":
            self._write(json.dumps((yield from self._string(char)), ensure_ascii=False))
        elif char == "{" and self._depth < MAX_DEPTH:
            yield from self._nested("{", "}", self._members)
        elif char == "[" and self._depth < MAX_DEPTH:
            yield from self._nested("[", "]", self._items)
        else:
            return (yield from self._bare(char, ends + ",)]}"))
        return (yield)

    def _string(self, quote: str) -> Generator[None, str, str]:
        text, is_escaped = quote, False
        while True:
            char = yield
            text += char if char != "\n" else "\\n"
            if char == quote and not is_escaped:
                break
            is_escaped = char == "\\" and not is_escaped
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
