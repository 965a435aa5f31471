"""The tokenizer.json files that families from before Llama come with, part by part as theirs are:
they open, and give the ids that the `tokenizers` package gives."""

import json
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from tests.weights.tokenizers import strings
from tests.weights.tokenizers.test_tokenizer import build

NUM_TEXTS = 300
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
UNCUT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"  # noqa: RUF001  # its own
PRE_TOKENIZERS = {
    "gpt-neox": GPT2,  # and Pythia, OLMo 1, MPT
    "phi": GPT2,
    "opt": GPT2,
    "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "falcon": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            GPT2,
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ]
    ),
    "bloom": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(BLOOM), "isolated"), UNCUT]),
}
NORMALIZED = ("gpt-neox",)  # to NFC
SPECIAL = {
    "opt": ["<s>", "<pad>", "</s>", "<unk>"],
    "bloom": ["<unk>", "<s>", "</s>", "<pad>"],
    "falcon": [">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>"],
}
HAS_BLANKS = ("gpt-neox", "phi")  # runs of blanks are tokens of their own


@cache
def described(family: str) -> str:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if family in NORMALIZED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[family]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=SPECIAL.get(family, ["<|endoftext|>"]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [*Path(__file__).read_text().splitlines(), *islice(strings.texts(7), 200)]
    words = [text.replace("<", "") for text in texts]  # special tokens are not learnt as text
    tokenizer.train_from_iterator(words, trainer)
    if family in HAS_BLANKS:
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(12, 1, -1)])
        tokenizer.add_tokens([AddedToken("\t" * n, normalized=False) for n in range(4, 1, -1)])
    return str(tokenizer.to_str())


@pytest.mark.parametrize("family", PRE_TOKENIZERS)
def test_ids_are_those_of_the_package(family: str) -> None:
    file: dict[str, Any] = json.loads(described(family))
    special = [token for token in file["added_tokens"] if token["special"]]
    ours = build(file, vocab_size=1000)
    # Special tokens never come from text here, so neither shall they there.
    plain = file | {"added_tokens": [t for t in file["added_tokens"] if t not in special]}
    theirs = tokenizers.Tokenizer.from_str(json.dumps(plain))
    examples = [
        "def f():\n        return 1\n",
        "x =  12345, y=678",
        "  a\t\t\tb",
        "été, été",
        "don't!?…",
    ]
    for text in [*examples, *islice(strings.texts(1), NUM_TEXTS)]:
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected, repr(text)
        assert family in NORMALIZED or b"".join(map(ours.token_bytes, expected)) == text.encode()
