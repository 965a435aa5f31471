"""What the text layer wants of a tokenizer.

`thirdeye.weights.tokenizers.tokenizer.Tokenizer` is one; tests bring their own.
"""

from typing import Protocol


class TokenizerLike(Protocol):
    @property
    def vocab_size(self) -> int:
        """Ids are in `[0, vocab_size)`: as many as the model has logits; not every id need have
        text."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Literal -> id of the tokens that plain text can never produce."""

    @property
    def strips(self) -> dict[str, tuple[bool, bool]]:
        """Special tokens that swallow the white space before them, and behind."""

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end a generation."""

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """What stands in front of a plain text: BOS, for many models."""

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        """What stands behind a plain text that nothing continues: EOS, for some."""

    @property
    def max_token_bytes(self) -> int:
        """Length of the longest token in bytes: n bytes of text are at least n / this many
        tokens."""

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:
        """Text to ids; special-token literals in it are plain text. Raises ValueError if it
        cannot. `follows_special`: a special token stands before it, so no text starts here."""

    def encode_with_special(self, text: str) -> list[int]:
        """The same, but special-token literals become their ids."""

    def merge_rank(self, token_id: int) -> int | None:
        """When byte-pair encoding made this token, among all; None where that is not known."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token (of a special token: its literal; of an unused id: b"")."""
