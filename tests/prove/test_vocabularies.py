"""llama.cpp's vocabularies: its own tests of them, and 20,000 texts a family between two encoders.

They come out of llama-cpp-python's source distribution, by pip and by hash. Without a package index
in reach nothing is proven, and that is said.
"""

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from unicodedata import is_normalized, normalize

import pytest

from tests.weights.tokenizers import plain_bpe, strings
from tests.weights.tokenizers.llama_cpp_vocabularies import (
    cases,
    open_vocabulary,
    vocabulary_of,
)
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.reader import read_gguf
from thirdeye.weights.tokenizers.added_tokens import AddedTokenFinder
from thirdeye.weights.tokenizers.chains import CHAINS, unranked_pipeline
from thirdeye.weights.tokenizers.pipeline import PipelineEncoder
from thirdeye.weights.tokenizers.pretokenize import BY_GGUF_NAME, PreTokenizer
from thirdeye.weights.tokenizers.sentencepiece.pieces import SPACE
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

pytestmark = [pytest.mark.prove, pytest.mark.timeout(3600)]

SOURCE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
MEMBERS = "/vendor/llama.cpp/models/ggml-vocab-"
NUM_TEXTS = 20_000

RANKED = ["command-r", "gpt-2", "llama-bpe", "mpt", "qwen2", "qwen35", "refact", "starcoder"]
CHAINED = ["aquila", "deepseek-coder", "deepseek-llm", "falcon", "gpt-neox"]
PIECES = ["baichuan", "gemma-4", "llama-spm", "phi-3"]
WITHOUT_TESTS = {"aquila", "baichuan", "gpt-neox", "nomic-bert-moe"}
REFUSED = {"bert-bge": "'bert' is not supported"}
ALL = sorted({*RANKED, *CHAINED, *PIECES, "nomic-bert-moe", *REFUSED})
Encode = Callable[[str], list[int]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("llama_cpp")
    # Of this alone: what it is built with may come as wheels.
    source = ["--no-deps", "--no-binary", SOURCE.partition("==")[0]]
    options = [*source, "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(where), SOURCE]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = list(where.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        reason = done.stderr.strip().splitlines()[-1:]
        pytest.skip(f"VOCABULARIES NOT PROVEN: pip could not download {SOURCE}: {reason}")
    assert hashlib.sha256(archives[0].read_bytes()).hexdigest() == SHA256
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if MEMBERS in member.name and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                (where / Path(member.name).name).write_bytes(content.read())
    return where


@cache
def opened(path: Path) -> Tokenizer:
    return open_vocabulary(path)


def file_of(folder: Path, name: str) -> Path:
    return folder / f"ggml-vocab-{name}.gguf"


def test_all_of_them_are_here(folder: Path) -> None:
    """A newer source with more of them shall not go by unseen."""
    found = {path.stem.removeprefix("ggml-vocab-") for path in folder.glob("*.gguf")}
    assert found == set(ALL)


@pytest.mark.parametrize("name", sorted(set(ALL) - WITHOUT_TESTS - REFUSED.keys()))
def test_llama_cpps_own_tests(folder: Path, name: str) -> None:
    """Three texts of Qwen 3.5's are no NFC: its tokenizer.json makes them so first, and so do we,
    where llama.cpp does not."""
    path = file_of(folder, name)
    tokenizer, tests = opened(path), cases(path)
    assert len(tests) >= 46
    differing = [text for text, ids in tests if tokenizer.encode(text) != ids]
    if name == "qwen35":
        assert [is_normalized("NFC", text) for text in differing] == [False] * 3
        for text in differing:
            assert tokenizer.encode(text) == tokenizer.encode(normalize("NFC", text))
    else:
        assert differing == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_name(folder: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match=REFUSED[name]):
        open_vocabulary(file_of(folder, name))


def attempt(encode: Encode, text: str) -> list[int] | None:
    """None where the vocabulary lacks a byte: that is refused."""
    try:
        return encode(text)
    except (ValueError, KeyError):
        return None


def check(ours: Encode, twin: Encode, *, without: tuple[str, ...] = ()) -> None:
    compared = 0
    for text in islice(strings.texts(20), NUM_TEXTS):
        if not any(literal in text for literal in without):
            assert attempt(ours, text) == attempt(twin, text), repr(text)
            compared += 1
    assert compared > NUM_TEXTS // 2


@pytest.mark.parametrize("name", RANKED)
def test_both_encoders_agree(folder: Path, name: str) -> None:
    """tiktoken, and the merges as they are through the other."""
    path = file_of(folder, name)
    file = read_gguf(path)
    vocabulary = vocabulary_of(path)
    family = vocabulary.pre_tokenizer
    assert isinstance(family, PreTokenizer)
    assert family is BY_GGUF_NAME[file.metadata["tokenizer.ggml.pre"]]
    other = PipelineEncoder(
        unranked_pipeline(vocabulary, family), vocabulary.special_tokens, vocabulary.text_tokens
    )
    check(opened(path).encode, other.encode)


@pytest.mark.parametrize("name", CHAINED)
def test_chains_agree_with_the_definition(folder: Path, name: str) -> None:
    metadata = read_gguf(file_of(folder, name)).metadata
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    kinds = metadata["tokenizer.ggml.token_type"].tolist()
    ids = {text: i for i, text in enumerate(tokens) if kinds[i] == 1}
    ranks = {tuple(pair.split(" ")): i for i, pair in enumerate(merges)}
    patterns = plain_bpe.compiled(CHAINS[metadata.get("tokenizer.ggml.pre", "default")])
    finder = AddedTokenFinder(vocabulary_of(file_of(folder, name)).text_tokens)

    def twin(text: str) -> list[int]:
        found: list[int] = []
        for part in finder.split(text):
            known = [part] if isinstance(part, int) else None
            found += known or plain_bpe.byte_level(str(part), patterns, ids, ranks)
        return found

    check(opened(file_of(folder, name)).encode, twin)


@pytest.mark.parametrize("name", PIECES)
def test_pieces_agree_with_the_definition(folder: Path, name: str) -> None:
    """The best score first, or the first merge; each text of its own."""
    metadata = read_gguf(file_of(folder, name)).metadata
    tokens = metadata["tokenizer.ggml.tokens"]
    scores, kinds = (metadata[f"tokenizer.ggml.{key}"].tolist() for key in ("scores", "token_type"))
    ids = {text: i for i, text in enumerate(tokens) if kinds[i] in (1, 6)}
    normal = {text: i for text, i in ids.items() if kinds[i] == 1}
    merges = metadata.get("tokenizer.ggml.merges")
    ranks = {tuple(pair.split(" ")): i for i, pair in enumerate(merges or ())}
    prefix = SPACE if metadata.get("tokenizer.ggml.add_space_prefix", True) else ""

    def by_score(left: str, right: str) -> float | None:
        token_id = normal.get(left + right)
        return None if token_id is None else -scores[token_id]

    def by_rank(left: str, right: str) -> float | None:
        return ranks.get((left, right))

    def twin(text: str) -> list[int]:
        spelled = (prefix + text).replace(" ", SPACE) if text else ""
        return plain_bpe.pieces(spelled, ids, by_rank if merges else by_score)

    added = tuple(token.literal for token in vocabulary_of(file_of(folder, name)).text_tokens)
    check(opened(file_of(folder, name)).encode, twin, without=added)


@pytest.mark.parametrize("name", sorted(set(ALL) - REFUSED.keys()))
def test_a_megabyte_of_one_letter(folder: Path, name: str) -> None:
    """In a time that grows with the text: with its square it would take hours."""
    tokenizer = opened(file_of(folder, name))
    ids = tokenizer.encode("a" * 1_000_000)
    joined = b"".join(map(tokenizer.token_bytes, ids))
    assert joined.strip() == b"a" * 1_000_000
