"""Bytes of tokens to text, as they come.

A token is a run of bytes and a character may be spread over several tokens, so the bytes of an
unfinished character wait here for the rest of it. Whatever the cuts, the joined result is exactly
`whole.decode("utf-8", "replace")`: invalid bytes become U+FFFD, and nothing sent is ever taken
back. At most three bytes wait, so each token costs time in its own length, not in the length of the
answer. This file knows no tokenizer: it is fed bytes.
"""

import codecs


class IncrementalDecoder:
    """UTF-8 decoder of a byte stream that arrives in pieces.

    The standard library's incremental decoder does the same with a Python method of its own around
    the same function; this runs for every token.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = b""  # the beginning of a character

    @property
    def is_pending(self) -> bool:
        """Whether bytes of an unfinished character are held back."""
        return bool(self._waiting)

    def feed(self, raw: bytes) -> str:
        """The text that `raw` completes."""
        data = self._waiting + raw
        text, num_read = codecs.utf_8_decode(data, "replace")
        self._waiting = data[num_read:]
        return text

    def flush(self) -> str:
        """The end: a character left unfinished becomes U+FFFD."""
        data, self._waiting = self._waiting, b""
        return data.decode("utf-8", "replace")
