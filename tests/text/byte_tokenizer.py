"""A tokenizer of bytes: ids 0..255 are the bytes, then come the special tokens. A test double."""

import re
from collections.abc import Sequence


class ByteTokenizer:
    """`extra` are tokens of several bytes that `encode` never makes, but a model may sample."""

    def __init__(
        self,
        specials: Sequence[str] = ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        *,
        extra: Sequence[bytes] = (),
        bos: str | None = "<|im_start|>",
        eos: Sequence[str] = ("<|im_end|>",),
        add_bos: bool = False,
        add_eos: bool = False,
    ) -> None:
        self._table = [bytes([i]) for i in range(256)] + [s.encode() for s in specials]
        self.special_tokens = {s: 256 + i for i, s in enumerate(specials)}
        self.strips: dict[str, tuple[bool, bool]] = {}
        self.first_extra_id = len(self._table)
        self._table += extra
        self.vocab_size = len(self._table) + 1  # the last id has no text
        self.bos_token_id = None if bos is None else self.special_tokens[bos]
        self.eos_token_ids = frozenset(self.special_tokens[s] for s in eos)
        is_added = add_bos and self.bos_token_id is not None
        self.prefix_ids = (self.bos_token_id,) if is_added else ()
        self.suffix_ids = (self.special_tokens[eos[0]],) if add_eos else ()
        self.max_token_bytes = max(map(len, self._table))

    def encode(self, text: str, *, follows_special: bool = False) -> list[int]:
        return list(text.encode())

    def encode_with_special(self, text: str) -> list[int]:
        if not self.special_tokens:
            return self.encode(text)
        pattern = "|".join(map(re.escape, sorted(self.special_tokens, key=len, reverse=True)))
        parts = re.split(f"({pattern})", text)
        ids = [[self.special_tokens[p]] if i % 2 else self.encode(p) for i, p in enumerate(parts)]
        return [token_id for part in ids for token_id in part]

    def merge_rank(self, token_id: int) -> int | None:
        return token_id if token_id < 256 else None

    def token_bytes(self, token_id: int) -> bytes:
        return self._table[token_id] if token_id < len(self._table) else b""
