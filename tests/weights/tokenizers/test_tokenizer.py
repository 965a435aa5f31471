"""Tokenizers built from tokenizer.json: equal to Hugging Face's, or refused."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.weights import tiny, vocabularies
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.tokenizers.hugging_face.tokenizer_json import read_vocabulary
from thirdeye.weights.tokenizers.pretokenize import GPT2
from thirdeye.weights.tokenizers.tokenizer import Tokenizer
from thirdeye.weights.tokenizers.vocabulary import ByteDecoder, Vocabulary, byte_characters

TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("  \n\r\t'sSlLd0123aé<|_>/ǅ你\u0301"),
    )
)

WORDS = ["1", "12", "1234", "'s", "'LL", "def", "DEF", "Été", "e\u0301", "_", "{", "!=", "/", "//"]
FOREIGN = ["你好", "カナ", "한글", "👩\u200d💻", "❤\ufe0f", "١٢", "²"]
BLANKS = ["  ", " ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000"]
PIECES = st.lists(st.sampled_from([*WORDS, *FOREIGN, *BLANKS]), max_size=12).map("".join)


@pytest.fixture(scope="module", params=vocabularies.FAMILIES)
def theirs(request: pytest.FixtureRequest) -> tokenizers.Tokenizer:
    return vocabularies.train(request.param, ignore_merges=request.param == "llama3")


@pytest.fixture(scope="module")
def ours(theirs: tokenizers.Tokenizer) -> Tokenizer:
    return build(vocabularies.as_json(theirs))


def build(
    tokenizer: dict[str, Any],
    vocab_size: int = 640,
    never_from_text: Sequence[str] = (),
    bos: int | None = None,
    **settings: object,
) -> Tokenizer:
    fields = Fields(Path("tokenizer.json"), tokenizer)
    config = Fields(Path("tokenizer_config.json"), settings)
    return Tokenizer(read_vocabulary(fields, config, vocab_size, bos, frozenset(), never_from_text))


@draws(30, 400)
@given(text=st.one_of(TEXTS, PIECES))
def test_equals_hugging_face(theirs: tokenizers.Tokenizer, ours: Tokenizer, text: str) -> None:
    """Texts without special literals: in theirs, a literal in the text becomes the token."""
    if not any(literal in text for literal in ours.special_tokens):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@draws(15, 200)
@given(text=TEXTS)
def test_special_literals_equal_hugging_face_when_asked_for(
    theirs: tokenizers.Tokenizer, ours: Tokenizer, text: str
) -> None:
    for literal in ours.special_tokens:
        spliced = f"{text}{literal}{text}"
        assert ours.encode_with_special(spliced) == theirs.encode(spliced).ids


@draws(25, 300)
@given(text=TEXTS)
def test_nothing_is_lost(theirs: tokenizers.Tokenizer, ours: Tokenizer, text: str) -> None:
    """decode(encode(x)) = x, byte for byte, for any text; NFC first where the model has it so."""
    normalized = theirs.normalizer.normalize_str(text) if theirs.normalizer else text
    ids = ours.encode(text)
    assert b"".join(map(ours.token_bytes, ids)) == normalized.encode()
    assert len(normalized.encode()) <= len(ids) * ours.max_token_bytes


@given(literal=st.sampled_from(vocabularies.SPECIAL), before=TEXTS, after=TEXTS)
@draws(15, 200)
def test_encode_never_makes_a_special_token(
    ours: Tokenizer, literal: str, before: str, after: str
) -> None:
    ids = ours.encode(before + literal + after)
    assert set(ids).isdisjoint(ours.special_tokens.values())


def test_the_longest_special_literal_wins(ours: Tokenizer) -> None:
    """`<|im_end|>s` is a token of its own, and `<|im_end|>` its beginning."""
    ids = ours.special_tokens
    assert ours.encode_with_special("<|im_end|>s") == [ids["<|im_end|>s"]]
    assert ours.encode_with_special("<|im_end|><|im_end|>s")[-1] == ids["<|im_end|>s"]
    assert ours.encode_with_special("") == []


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "😀\ud83d"])
def test_lone_surrogates_are_an_error(ours: Tokenizer, text: str) -> None:
    """tiktoken would put U+FFFD in their place."""
    with pytest.raises(ValueError, match="half a surrogate pair"):
        ours.encode(text)
    with pytest.raises(ValueError, match="half a surrogate pair"):
        ours.encode_with_special(f"<|im_start|>{text}")


def test_ids_without_text(ours: Tokenizer) -> None:
    """A model may have more logits than its tokenizer has tokens."""
    assert ours.vocab_size == 640
    assert ours.token_bytes(639) == b""
    for token_id in (-1, 640, 2**40):
        with pytest.raises(ValueError, match="between 0 and 639"):
            ours.token_bytes(token_id)


def test_the_fingerprint_tells_vocabularies_apart(ours: Tokenizer, theirs: Any) -> None:
    tokenizer = vocabularies.as_json(theirs)
    assert build(tokenizer).fingerprint == ours.fingerprint
    tokenizer["added_tokens"][0]["content"] = "<|other|>"
    tokenizer["model"]["vocab"]["<|other|>"] = tokenizer["model"]["vocab"].pop("<|endoftext|>")
    assert build(tokenizer).fingerprint != ours.fingerprint


@draws(15, 200)
@given(text=TEXTS)
def test_ids_in_another_order_than_merges(
    shuffled_pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str
) -> None:
    """Where ids do not rise with the merges, ranks come from the merges and ids are put back."""
    shuffled, expected = shuffled_pair
    assert shuffled.encode(text) == expected.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def shuffled_pair() -> tuple[Tokenizer, tokenizers.Tokenizer]:
    tokenizer = vocabularies.as_json(vocabularies.train("gpt2"))
    vocab = tokenizer["model"]["vocab"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ordinary = [token for token in vocab if token not in special]
    reversed_ids = sorted((vocab[token] for token in ordinary), reverse=True)
    tokenizer["model"]["vocab"] = special | dict(zip(ordinary, reversed_ids, strict=True))
    tokenizer["added_tokens"] = []  # so that theirs finds no special literal in the text
    expected = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    decode = ByteDecoder()
    pairs = zip(ordinary, reversed_ids, strict=True)
    tokens = {token_id: decode(token) for token, token_id in pairs}
    merges = [(decode(left), decode(right)) for left, right in tokenizer["model"]["merges"]]
    ours = Tokenizer(Vocabulary(tokens, merges, special, GPT2, 600, None, frozenset()))
    return ours, expected


def test_the_byte_table() -> None:
    """GPT-2's: 256 different characters, and ByteDecoder inverts it and takes nothing else."""
    table = byte_characters()
    assert sorted(table.values()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert ByteDecoder()("".join(table[byte] for byte in range(256))) == bytes(range(256))
    for character in (" ", "\n", "\x80", "\xa0", "\xad", "ń" + "z", "你"):
        if character[0] not in table.values():
            with pytest.raises(ValueError, match="byte-level characters"):
                ByteDecoder()(character)


def test_many_tokens_are_decoded_as_each_of_them() -> None:
    table, decode = byte_characters(), ByteDecoder()
    texts = ["".join(table[(7 * i + j) % 256] for j in range(i % 5)) for i in range(600)]
    assert decode.each_of(texts) == [decode(text) for text in texts]
    assert decode.each_of([]) == []
    with pytest.raises(ValueError, match="'a b' is not written in byte-level characters"):
        decode.each_of([*texts, "a b"])


REFUSED = {
    "unigram": {"model": {"type": "Unigram", "vocab": []}},
    "byte fallback": {"model": {"byte_fallback": True}},
    "word suffix": {"model": {"end_of_word_suffix": "</w>"}},
    "merges gone": {"model": {"merges": None}},
    "merge of three": {"model": {"merges": ["a b c"]}},
    "merge of unknown tokens": {"model": {"merges": [["zzzz", "qqqq"]]}},
    "vocab a list": {"model": {"vocab": ["a"]}},
    "vocab id a string": {"model": {"vocab": {"a": "1"}}},
    "vocab id too large": {"model": {"vocab": {"a": 640}, "merges": []}},
    "vocab id negative": {"model": {"vocab": {"a": -5}, "merges": []}},
    "one id twice": {"model": {"vocab": {"a": 7, "b": 7}, "merges": []}},
    "token not byte-level": {"model": {"vocab": {"▁the": 7}, "merges": []}},
    "another normalizer": {"normalizer": {"type": "BertNormalizer"}},
    "metaspace": {"pre_tokenizer": {"type": "Metaspace"}},
    "no pre-tokenizer": {"pre_tokenizer": None},
    "sequence of nothing": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": 3}},
    "added token without id": {"added_tokens": [{"content": "<x>"}]},
    "added token twice": {"added_tokens": [{"content": "<x>", "id": 601}] * 2},
    "added tokens share an id": {
        "added_tokens": [{"content": "<x>", "id": 601}, {"content": "<y>", "id": 601}]
    },
    "added token empty": {"added_tokens": [{"content": "", "id": 601}]},
    "added tokens not a list": {"added_tokens": {"<x>": 1}},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_exactly_ours_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = checkpoint_with(tmp_path, change)
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json"):
        open_checkpoint(path).tokenizer()


def checkpoint_with(tmp_path: Path, change: dict[str, Any], **settings: object) -> Path:
    tokenizer = vocabularies.as_json(vocabularies.train("gpt2"))
    tokenizer["model"] |= change.get("model", {})
    tokenizer |= {key: value for key, value in change.items() if key != "model"}
    model = tiny.llama(vocab_size=640, bos_token_id=1, eos_token_id=2)
    path = tiny.save(model, tmp_path / "llama")
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def test_without_a_tokenizer_it_is_said_which_files(tmp_path: Path) -> None:
    path = checkpoint_with(tmp_path, {})
    (path / "tokenizer.json").rename(path / "vocab.json")
    with pytest.raises(ModelFormatError, match=r"no vocab\.json with merges\.txt\. Copy"):
        open_checkpoint(path).tokenizer()


def test_a_checkpoint_gives_its_tokenizer(tmp_path: Path) -> None:
    path = checkpoint_with(tmp_path, {}, chat_template="{{ messages }}", eos_token="<|im_end|>s")
    (path / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    checkpoint = open_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    assert checkpoint.chat_template == "{{ messages }}"
    assert tokenizer.eos_token_ids == {0, 2, 3}
    assert (tokenizer.bos_token_id, tokenizer.prefix_ids, tokenizer.vocab_size) == (1, (), 640)
    fingerprint = checkpoint.fingerprint
    assert open_checkpoint(path).fingerprint == fingerprint
    (path / "chat_template.jinja").write_text("{{ other }}")
    assert open_checkpoint(path).chat_template == "{{ other }}"
    assert open_checkpoint(path).fingerprint != fingerprint


def test_templates_may_be_a_list_of_named_ones(tmp_path: Path) -> None:
    templates = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]
    path = checkpoint_with(tmp_path, {}, chat_template=templates)
    assert open_checkpoint(path).chat_template == "yes"
    path = checkpoint_with(tmp_path, {}, chat_template=3)
    with pytest.raises(ModelFormatError, match="chat_template"):
        open_checkpoint(path)


def test_bos_in_front(tmp_path: Path) -> None:
    """The post-processor says so, unless tokenizer_config.json speaks of it."""
    token = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    listed = {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}
    single = [token, {"Sequence": {"id": "A", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": single, "special_tokens": listed}
    path = checkpoint_with(tmp_path, {"post_processor": post})
    assert open_checkpoint(path).tokenizer().prefix_ids == (1,)
    path = checkpoint_with(tmp_path, {"post_processor": post}, add_bos_token=False)
    assert open_checkpoint(path).tokenizer().prefix_ids == ()


@pytest.mark.parametrize("value", [640, -1, "2", [2, None], 1.0])
def test_eos_ids_are_checked(tmp_path: Path, value: object) -> None:
    path = checkpoint_with(tmp_path, {})
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ModelFormatError, match=r"generation_config\.json, 'eos_token_id'"):
        open_checkpoint(path).tokenizer()


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny.save(tiny.llama(), tmp_path / "llama"))
    with pytest.raises(ModelFormatError, match=r"there is no tokenizer\.json"):
        checkpoint.tokenizer()


def test_a_vocabulary_that_no_model_of_this_size_has_is_not_copied() -> None:
    """Of 800,000 tokens the tables that were made before the refusal had 100 MB."""
    vocab = {f"a{i}": i for i in range(50_000)}
    fields = Fields(Path("tokenizer.json"), {"model": {"vocab": vocab}})
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match="has the id 49999, the model 512"):
            read_vocabulary(fields, None, 512, None, frozenset())
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
