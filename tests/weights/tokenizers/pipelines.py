"""Small trained tokenizers that tiktoken cannot say, as tokenizer.json and as SentencePiece."""

import functools
import json
import re
import struct
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.weights import vocabularies
from thirdeye.weights.tokenizers.chains import CHAINS

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"
VOCAB_SIZE = 900
NORMALIZERS = {
    "llama": normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]),
    "gemma": normalizers.Replace(" ", SPACE),
}
PRE_TOKENIZERS = {
    "mistral": pre_tokenizers.Metaspace(SPACE, "first", split=False),
    "gemma": pre_tokenizers.Split(" ", "merged_with_previous"),
    "t5": pre_tokenizers.Metaspace(SPACE, "always"),
    "deepseek-v3": vocabularies.split(*CHAINS["deepseek-v3"]),
    "falcon": vocabularies.split(*CHAINS["falcon"]),
    "bloom": vocabularies.split(*CHAINS["bloom"]),
}
PIECES = ("llama", "mistral", "gemma")
CHAINED = ("deepseek-v3", "falcon", "bloom")
FAMILIES = [*PIECES, "t5", *CHAINED]


@functools.cache
def train(family: str) -> str:
    """tokenizer.json of 900 tokens at most."""
    is_unigram, falls_back = family == "t5", family in PIECES
    model = models.Unigram() if is_unigram else models.BPE(byte_fallback=falls_back, fuse_unk=True)
    tokenizer = tokenizers.Tokenizer(model)
    if family in NORMALIZERS:
        tokenizer.normalizer = NORMALIZERS[family]
    if family in PRE_TOKENIZERS:
        tokenizer.pre_tokenizer = PRE_TOKENIZERS[family]
    decoder = decoders.ByteLevel() if family in CHAINED else decoders.Replace(SPACE, " ")
    tokenizer.decoder = decoder
    texts = [path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    taken = re.compile("|".join(map(re.escape, [*SPECIAL, *BYTES])))  # not to be learnt as text
    texts = [taken.sub("", text) for text in texts]
    lines = [line for text in texts for line in text.splitlines()]  # else a file is one word
    tokenizer.train_from_iterator([*lines, "été naïve 你好 '1234'"], _trainer(family))
    described: dict[str, Any] = json.loads(tokenizer.to_str())
    described["added_tokens"] = described["added_tokens"][: len(SPECIAL)]
    return json.dumps(described)


def _trainer(family: str) -> Any:
    if family == "t5":
        return trainers.UnigramTrainer(
            vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    is_chained = family in CHAINED
    return trainers.BpeTrainer(
        vocab_size=600 if is_chained else VOCAB_SIZE,
        special_tokens=SPECIAL if is_chained else [*SPECIAL, *BYTES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if is_chained else [],
        show_progress=False,
    )


def sentencepiece(
    pieces: list[tuple[str, float, int]], *, model_type: int = 2, normalizer: bytes = b""
) -> bytes:
    """A `tokenizer.model` of these texts, scores and types. By default it removes no spaces."""
    raw = b"".join(_message(1, _piece(*piece)) for piece in pieces)
    return raw + _message(2, bytes([3 << 3, model_type])) + _message(3, normalizer or b"\x20\0")


def _piece(text: str, score: float, kind: int) -> bytes:
    return _message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, kind])


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)
