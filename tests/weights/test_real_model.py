"""The embedded default model: read fast, without torch, and tokenized exactly as llama.cpp does."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from tests.weights.real import default_model
from tests.weights.sinks import RecordingSink
from thirdeye.server.bench.model_shapes import SMOLLM2_135M
from thirdeye.server.text.tokenizer import TokenizerLike
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.reader import read_gguf
from thirdeye.weights.load import load_weights
from thirdeye.weights.tokenizers.tiktoken_encoder import MAX_WHITE_SPACE_RUN
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

pytestmark = pytest.mark.real

GOLDEN = json.loads(Path(__file__).with_name("smollm2_token_ids.json").read_text())


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(default_model())


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    return checkpoint.tokenizer()


def conforms(tokenizer: Tokenizer) -> TokenizerLike:
    """For the type checker: ours is what the text layer wants."""
    return tokenizer


def test_config(checkpoint: Checkpoint) -> None:
    assert checkpoint.name == "SmolLM2-135M-Instruct"
    assert checkpoint.config == SMOLLM2_135M
    assert checkpoint.chat_template is not None
    assert "<|im_start|>" in checkpoint.chat_template


def test_the_description_is_read_fast_and_without_torch() -> None:
    """The API process does just this; torch alone would take it seconds."""
    script = (
        "import sys, pathlib\n"
        "from thirdeye.weights.checkpoint import open_checkpoint\n"
        "checkpoint = open_checkpoint(pathlib.Path(sys.argv[1]))\n"
        "assert checkpoint.tokenizer().encode('x =  12') == [104, 446, 256, 33, 34]\n"
        "assert checkpoint.chat_template and checkpoint.fingerprint\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert not any(name.startswith('transformers') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(default_model())], check=True, timeout=60)


def test_a_download_that_broke_off_is_refused(tmp_path: Path) -> None:
    """The first 8 MB of the file: tensors reach past its end. The `gguf` package took 5 s here."""
    path = tmp_path / "cut.gguf"
    with default_model().open("rb") as file:
        path.write_bytes(file.read(8_000_000))
    with pytest.raises(ModelFormatError, match="reach past the end of the file"):
        open_checkpoint(path)


def test_all_weights_load(checkpoint: Checkpoint) -> None:
    torch.set_num_threads(1)
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    assert sum(tensor.numel() for tensor in sink.loaded.values()) == 134_515_008
    embedding = sink.loaded["embed_tokens.weight", None]
    assert embedding.dtype == torch.float32
    assert embedding.isfinite().all()


@pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
def test_golden_ids_from_llama_cpp(tokenizer: Tokenizer, case: dict[str, object]) -> None:
    assert tokenizer.encode(str(case["text"])) == case["ids"]


@pytest.fixture(scope="module")
def reference() -> tokenizers.Tokenizer:
    """Single digits, then GPT-2's expression: SmolLM2's rule, in Hugging Face's own code."""
    metadata = read_gguf(default_model()).metadata
    vocab = {token: token_id for token_id, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    reference = tokenizers.Tokenizer(models.BPE(vocab, merges))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return reference


def chunks_of_source() -> Iterator[str]:
    """Python's own library, cut at odd places."""
    for name in ("argparse", "json/decoder", "locale", "unicodedata", "html/entities", "decimal"):
        path = Path(json.__file__).parents[1] / f"{name}.py"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            yield from (text[start : start + 97] for start in range(0, min(len(text), 60_000), 97))


def fuzz(count: int) -> Iterator[str]:
    generator = random.Random(0)
    alphabets = [
        "ab \n\t\r'x1230", " 0123456789.,\n", "'stdmlrev SLTD re ll",
        "éßñ ÄǅⅧ²٣६½ \u00a0\u2003\u3000",
        "你好日本語かな한글 ", "👍🏽👨‍👩‍👧🇩🇪\u0301\u200d", "<|im_start|>endof ",
        "\u0085\u2028\u200b\ufeff\x1c\x7f ",
        "".join(map(chr, range(32, 0x250))),
    ]  # fmt: skip
    for _ in range(count):
        alphabet = "".join(generator.sample(alphabets, generator.randint(1, 3)))
        yield "".join(generator.choices(alphabet, k=generator.randint(1, 40)))


def test_equals_the_reference_on_thousands_of_texts(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer
) -> None:
    compared = 0
    for text in [*chunks_of_source(), *fuzz(6000)]:
        try:
            ids = tokenizer.encode(text)
        except ValueError:
            continue  # a byte without a token; the reference drops it
        assert ids == reference.encode(text, add_special_tokens=False).ids, repr(text)
        compared += 1
    assert compared > 6000


def test_special_tokens_only_where_asked_for(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.special_tokens) == 17
    special_ids = set(tokenizer.special_tokens.values())
    for literal, token_id in tokenizer.special_tokens.items():
        assert special_ids.isdisjoint(tokenizer.encode(f"a{literal}b"))
        assert tokenizer.encode_with_special(f"a{literal}b") == [81, token_id, 82]
        assert tokenizer.token_bytes(token_id) == literal.encode()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (1, {0, 2})
    assert (tokenizer.prefix_ids, tokenizer.vocab_size) == ((), 49152)


def test_every_token_is_its_own_encoding(tokenizer: Tokenizer) -> None:
    """A whole vocabulary's self-check: bytes that are text encode back to one token, unless the
    expression cuts them; 17 special tokens aside."""
    assert tokenizer.max_token_bytes == max(
        len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)
    )
    whole = 0
    for token_id in range(17, tokenizer.vocab_size):
        try:
            ids = tokenizer.encode(tokenizer.token_bytes(token_id).decode())
        except UnicodeDecodeError:
            continue
        assert b"".join(map(tokenizer.token_bytes, ids)) == tokenizer.token_bytes(token_id)
        whole += ids == [token_id]
    assert whole > 48_500


@pytest.mark.parametrize("character", ["\x04", "\x1d", "\U00050000"])
def test_a_byte_without_a_token_is_an_error(tokenizer: Tokenizer, character: str) -> None:
    """This vocabulary lacks 21 bytes. llama.cpp drops them in silence; tiktoken panics, with an
    exception that `except Exception` does not catch."""
    with pytest.raises(ValueError, match=rf"U\+{ord(character):04X}.*no token"):
        tokenizer.encode(f"é{character}!")


@pytest.mark.parametrize("unit", [" ", "\n", " \n", "\u3000"])
def test_the_longest_white_space_still_encodes(tokenizer: Tokenizer, unit: str) -> None:
    """At the limit tiktoken's regex engine is well; ten times as much makes it panic."""
    text = (unit * MAX_WHITE_SPACE_RUN)[:MAX_WHITE_SPACE_RUN] + "a"
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))).decode() == text


@pytest.mark.parametrize(
    "unit", ["a", "^", "你", "👨‍👩‍👧", "e\u0301", "\0", "1", " ", "\n", "a ", " \n"]
)
def test_tokenizer_bombs(tokenizer: Tokenizer, unit: str) -> None:
    """A megabyte of one character is tokens or a ValueError, within seconds; never a panic."""
    text = unit * (1_000_000 // len(unit.encode()))
    if unit.isspace():
        with pytest.raises(ValueError, match="white-space characters in a row"):
            tokenizer.encode(text)
    else:
        assert len(tokenizer.encode(text)) >= len(text.encode()) // tokenizer.max_token_bytes
