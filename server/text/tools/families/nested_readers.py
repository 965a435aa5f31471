"""Readers of values in values, in a notation of the family's own: Gemma's, Python's."""

import ast
import json
from abc import abstractmethod
from collections.abc import Callable, Generator

from thirdeye.server.text.tools.families.written_reader import Reading, WrittenReader

_QUOTE = '<|"|>'
MAX_DEPTH = 64  # of values in values; deeper ones are read as words
_BARE = {"True": "true", "False": "false", "None": "null"}


class NestedReader(WrittenReader):
    """Each value is written as it comes."""

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

    @abstractmethod
    def _members(self, end: str, char: str) -> Reading:
        """Members of an object up to `end`; `char` is the first character."""

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

    @abstractmethod
    def _value(self, char: str, ends: str) -> Generator[None, str, str]:
        """One value from its first character on; gives the character behind it."""

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


class GemmaReader(NestedReader):
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


class PythonReader(NestedReader):
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
