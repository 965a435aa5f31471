"""Frames of tool calls, character by character: whether a text fits a pattern, where JSON ends."""

import string

from thirdeye.server.text.tools.definitions import MAX_NAME_CHARS, NAME_CHARS

_ALPHANUMERIC = string.ascii_letters + string.digits


class Frame:
    """Compares characters with a pattern: a space is any white space or none, `*` a name, `#`
    digits or none, `@` letters and digits or none, all else is itself."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.name = ""
        self._at = 0

    @property
    def is_complete(self) -> bool:
        return self._at == len(self.pattern)

    def feed(self, char: str) -> bool:
        """Whether the text still fits. Not to be asked once it is complete, or does not fit."""
        while True:
            wanted = self.pattern[self._at]
            if wanted == " ":
                if char in " \t\r\n":
                    return True
            elif wanted == "#":
                if char in string.digits:
                    return True
            elif wanted == "@":
                if char in _ALPHANUMERIC:
                    return True
            elif wanted == "*":
                if char in NAME_CHARS and len(self.name) < MAX_NAME_CHARS:
                    self.name += char
                    return True
                if not self.name:
                    return False
            else:
                self._at += 1
                return char == wanted
            self._at += 1


class ObjectEnd:
    """Finds the end of a JSON object whose first brace has been read."""

    def __init__(self) -> None:
        self._depth = 1
        self._in_string = False
        self._is_escaped = False

    def feed(self, char: str) -> bool:
        """Whether `char` is the last of the object."""
        if self._in_string:
            self._in_string = self._is_escaped or char != '"'
            self._is_escaped = char == "\\" and not self._is_escaped
        elif char == '"':
            self._in_string = True
        elif char in "{}":
            self._depth += 1 if char == "{" else -1
        return self._depth == 0
