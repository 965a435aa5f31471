"""Arguments as the families write them, turned into JSON on the way.

Each reader is fed one character at a time and says what it adds to the JSON, so a cut of the text
cannot matter. It begins behind the call's head and is done with the character that ends the
arguments.
"""

import json
import re
from collections.abc import Generator
from typing import Protocol

from thirdeye.server.text.tools.families.call_form import Arguments
from thirdeye.server.text.tools.families.deepseek_forms import DSML
from thirdeye.server.text.tools.families.nested_readers import GemmaReader, PythonReader
from thirdeye.server.text.tools.families.typed_values import Schema, as_json, schema_of, types_of
from thirdeye.server.text.tools.families.written_reader import Reading, WrittenReader
from thirdeye.server.text.tools.frame import ObjectEnd


class ArgumentReader(Protocol):
    is_done: bool

    def feed(self, char: str) -> str: ...


def make_argument_reader(kind: Arguments, parameters: Schema) -> ArgumentReader:
    match kind:
        case Arguments.JSON:
            return JsonReader()
        case Arguments.XML:
            return XmlReader(parameters)
        case Arguments.DSML:
            return DsmlReader(parameters)
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


class _TypedReader(WrittenReader):
    """Arguments of bare texts; each is written once it is whole."""

    def __init__(self, parameters: Schema) -> None:
        self._parameters = parameters
        self._num = 0
        super().__init__()

    def _argument(self, key: str, text: str) -> None:
        self._member(key, as_json(text, schema_of(self._parameters, key), self._parameters))

    def _value(self, key: str, mark: str, *, is_json: bool = False) -> Generator[None, str, str]:
        """Up to a mark that does not stand inside a string of JSON."""
        types = types_of(schema_of(self._parameters, key), self._parameters)
        is_json = is_json or bool(types and "string" not in types)
        text, _ = yield from self._until(mark)
        while is_json and _ends_in_string(text):
            more, _ = yield from self._until(mark)
            text += mark + more
        return text

    def _member(self, key: str, value: str) -> None:
        before = ", " if self._num else "{"
        self._write(f"{before}{json.dumps(key, ensure_ascii=False)}: {value}")
        self._num += 1

    def _end(self) -> None:
        self._write("}" if self._num else "{}")


def _ends_in_string(text: str) -> bool:
    """Whether the end of JSON, or of what begins as such, is inside a string."""
    return _STRINGS.sub("", text).count('"') == 1


_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class XmlReader(_TypedReader):
    """`<parameter=KEY>`, VALUE, `</parameter>` until `</function>`. One line break on each side of
    a value is no part of it."""

    def _read(self) -> Reading:
        while True:
            _, mark = yield from self._until("<parameter=", "</function>")
            if mark == "</function>":
                return self._end()
            key, _ = yield from self._until(">")
            value = yield from self._value(key.strip(), "</parameter>")
            self._argument(key.strip(), value.removeprefix("\n").removesuffix("\n"))


class DsmlReader(_TypedReader):
    """`<｜DSML｜parameter name="KEY" string="true">`, VALUE, `</｜DSML｜parameter>` until
    `</｜DSML｜invoke>`. What says that it is no string is JSON, if it can be read as such."""

    def _read(self) -> Reading:
        while True:
            _, mark = yield from self._until(f'<{DSML}parameter name="', f"</{DSML}invoke>")
            if mark.startswith("</"):
                return self._end()
            key, _ = yield from self._until('"')
            said, _ = yield from self._until(">")
            if "true" in said:
                value, _ = yield from self._until(f"</{DSML}parameter>")
                self._member(key, json.dumps(value, ensure_ascii=False))
            else:
                self._argument(
                    key, (yield from self._value(key, f"</{DSML}parameter>", is_json=True))
                )


class PairsReader(_TypedReader):
    """`<arg_key>KEY</arg_key>\\n<arg_value>VALUE</arg_value>` until `</tool_call>`; the first `<`
    belongs to the head."""

    def _read(self) -> Reading:
        _, mark = yield from self._until("arg_key>", "/tool_call>")
        while not mark.endswith("/tool_call>"):
            key, _ = yield from self._until("</arg_key>")
            yield from self._until("<arg_value>")
            value = yield from self._value(key.strip(), "</arg_value>")
            self._argument(key.strip(), value)
            _, mark = yield from self._until("<arg_key>", "</tool_call>")
        self._end()
