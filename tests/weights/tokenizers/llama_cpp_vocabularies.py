"""llama.cpp's own vocabularies and tests, held to ours.

    python -m tests.weights.tokenizers.llama_cpp_vocabularies DIR

DIR is the `models` folder of llama.cpp's source (the sdist of llama-cpp-python has it, in
vendor/llama.cpp): `ggml-vocab-NAME.gguf` with `.inp` (texts) and `.out` (their ids). Prints, for
each: how many texts give the same ids, or why the vocabulary is refused. Exits with 1 if one of
them differs.
"""

import sys
from pathlib import Path
from unicodedata import is_normalized

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.gguf_vocabulary import read_vocabulary
from thirdeye.weights.formats.gguf.reader import read_gguf
from thirdeye.weights.tokenizers.tokenizer import Tokenizer
from thirdeye.weights.tokenizers.vocabulary import Vocabulary

SEPARATOR = "\n__ggml_vocab_test__\n"


def main(folder: Path) -> int:
    differing = 0
    for path in sorted(folder.glob("ggml-vocab-*.gguf")):
        name = path.stem.removeprefix("ggml-vocab-")
        try:
            tokenizer = open_vocabulary(path)
        except (ModelFormatError, ValueError) as error:
            print(f"{name:18} refused: {error}")
            continue
        tests = cases(path)
        if not tests:
            print(f"{name:18} opens; there are no tests of it")
            continue
        wrong = differences(tokenizer, tests)
        differing += bool(wrong)
        print(f"{name:18} {'DIFFERS' if wrong else 'equal'}: {wrong} of {len(tests)} differ")
    return int(differing > 0)


def open_vocabulary(path: Path) -> Tokenizer:
    return Tokenizer(vocabulary_of(path))


def vocabulary_of(path: Path) -> Vocabulary:
    """These files hold no tensor: the vocabulary's own length is the model's."""
    file = read_gguf(path)
    return read_vocabulary(file, len(file.metadata["tokenizer.ggml.tokens"]))


def cases(path: Path) -> list[tuple[str, list[int]]]:
    if not Path(f"{path}.inp").exists():
        return []
    texts = Path(f"{path}.inp").read_bytes().decode().split(SEPARATOR)
    lines = Path(f"{path}.out").read_text().splitlines()
    ids = [[int(number) for number in line.split()] for line in lines]
    return list(zip(texts, ids, strict=False))


def differences(tokenizer: Tokenizer, tests: list[tuple[str, list[int]]]) -> int:
    wrong = 0
    for text, ids in tests:
        ours = tokenizer.encode(text)
        if ours != ids:
            wrong += 1
            note = (
                "" if is_normalized("NFC", text) else " (not NFC, which we make it where HF does)"
            )
            print(f"  {text!r:.80}{note}\n    ours   {ours}\n    theirs {ids}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
