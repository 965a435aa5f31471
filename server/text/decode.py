"""Bytes of tokens to text, as they come.

A token is a run of bytes and a character may be spread over several tokens, so the bytes of an
unfinished character wait here for the rest of it. Whatever the cuts, the joined result is exactly
`whole.decode("utf-8", "replace")`: invalid bytes become U+FFFD, and nothing sent is ever taken
back. At most three bytes wait, so each token costs time in its own length, not in the length of the
answer. This file knows no tokenizer: it is fed bytes.
"""

import codecs


class IncrementalDecoder:
    """UTF-8 decoder of a byte stream that arrives in pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_pending(self) -> bool:
        """Whether bytes of an unfinished character are held back."""
        return bool(self._decoder.getstate()[0])

    def feed(self, raw: bytes) -> str:
        """The text that `raw` completes."""
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """The end: a character left unfinished becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)
