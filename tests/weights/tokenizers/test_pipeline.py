"""Tokenizers of the second encoder: equal to the `tokenizers` package reading the same file."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.draws import also_at_night, count, draws
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_tokenizer import PIECES, TEXTS, build
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.text.templates.special_tokens import SpecialTokens
from thirdeye.server.text.tools.form import encode_with_tags
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

BOTH = st.one_of(TEXTS, PIECES)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module", params=pipelines.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(family: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(pipelines.train(family))


@pytest.fixture(scope="module")
def ours(family: str) -> Tokenizer:
    return build(json.loads(pipelines.train(family)), vocab_size=pipelines.VOCAB_SIZE)


def encode_or_refuse(tokenizer: Tokenizer, text: str) -> list[int] | None:
    try:
        return tokenizer.encode(text)
    except ValueError:
        return None


@draws(25, 300)
@given(text=BOTH)
def test_equals_hugging_face(
    family: str, theirs: tokenizers.Tokenizer, ours: Tokenizer, text: str
) -> None:
    """Unigram alone has characters without a token: where theirs says `<unk>`, ours refuses."""
    expected = theirs.encode(text, add_special_tokens=False).ids
    if family == "t5" and ours.special_tokens["<unk>"] in expected:
        expected = None
    assert encode_or_refuse(ours, text) == expected


@draws(15, 200)
@given(text=BOTH)
def test_nothing_is_lost(family: str, ours: Tokenizer, text: str) -> None:
    """Joined bytes are the text, after the space that the model's rules put in front."""
    ids = encode_or_refuse(ours, text)
    if ids is None:
        return
    joined = b"".join(map(ours.token_bytes, ids))
    spelled = text.replace(pipelines.SPACE, " ") if family not in pipelines.CHAINED else text
    has_prefix = family in ("llama", "mistral", "t5") and joined != spelled.encode()
    assert joined == (b" " if has_prefix else b"") + spelled.encode()
    assert len(text.encode()) <= len(ids) * ours.max_token_bytes


@given(literal=st.sampled_from(pipelines.SPECIAL), before=BOTH, after=BOTH)
@draws(15, 200)
def test_text_never_becomes_a_special_token(
    ours: Tokenizer, literal: str, before: str, after: str
) -> None:
    ids = encode_or_refuse(ours, before + literal + after) or []
    assert set(ids).isdisjoint(ours.special_tokens.values())


@draws(15, 200)
@given(parts=st.lists(st.one_of(PIECES, st.sampled_from(pipelines.SPECIAL[1:])), max_size=6))
def test_text_between_special_tokens(
    theirs: tokenizers.Tokenizer, ours: Tokenizer, parts: list[str]
) -> None:
    text = "".join(parts)
    expected = theirs.encode(text, add_special_tokens=False).ids
    if ours.special_tokens["<unk>"] not in expected:
        assert ours.encode_with_special(text) == expected
        assert SpecialTokens(ours).encode(text) == expected


def test_a_chat_equals_transformers(theirs: tokenizers.Tokenizer, ours: Tokenizer) -> None:
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=theirs, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    chat = [
        {"role": "user", "content": "def f(x):\n  return x"},
        {"role": "assistant", "content": "a  b"},
        {"role": "user", "content": " 12"},
    ]
    rendered = fast.apply_chat_template(chat, tokenize=False)
    expected = fast.apply_chat_template(chat, tokenize=True, return_dict=False)
    if ours.special_tokens["<unk>"] not in expected:
        assert SpecialTokens(ours).encode(rendered) == expected


def test_a_byte_stands_for_itself() -> None:
    ours = build(json.loads(pipelines.train("llama")), vocab_size=pipelines.VOCAB_SIZE)
    ids = ours.encode(chr(0x13001))
    assert [ours.token_bytes(i) for i in ids] == [b" ", b"\xf0", b"\x93", b"\x80", b"\x81"]


@also_at_night
def test_a_million_letters(family: str, ours: Tokenizer) -> None:
    """Quadratic work here would outlast the suite's limit on one test. At a push one family has a
    million, and each of the others a tenth of it."""
    size = count(1_000_000 if family == "llama" else 100_000, 1_000_000)
    ids = ours.encode("a" * size)
    assert len(b"".join(map(ours.token_bytes, ids))) in (size, size + 1)


def normalized_by(*kinds: str) -> str:
    """A tokenizer.json of Llama's family with these normalizers first, and tokens to be found in
    normalized text and in text as it came."""
    raw = json.loads(pipelines.train("llama"))
    raw["normalizer"]["normalizers"][:0] = [{"type": kind} for kind in kinds]
    theirs = tokenizers.Tokenizer.from_str(json.dumps(raw))
    theirs.add_tokens([tokenizers.AddedToken("ÉTÉ", normalized=True)])
    theirs.add_tokens([tokenizers.AddedToken("Àb", normalized=False)])
    return str(theirs.to_str())


CHANGING = [
    ("Lowercase",), ("NFD", "StripAccents"), ("Nmt",),
    ("Nmt", "NFKD", "StripAccents", "Lowercase"),
]  # fmt: skip


@pytest.mark.parametrize("kinds", CHANGING, ids="+".join)
def test_normalizers_that_change_letters(kinds: tuple[str, ...]) -> None:
    """And take some away: accents, control characters. U+212A and U+0130 change their length."""
    described = normalized_by(*kinds)
    theirs = tokenizers.Tokenizer.from_str(described)
    ours = build(json.loads(described), vocab_size=pipelines.VOCAB_SIZE + 2)
    alphabet = st.text(st.sampled_from("aBéÉÀÅ\u212a\u0130\u0301\u200b\x00\x7f\u2028 ÉTÉ\n"))

    @draws(20, 300)
    @given(text=st.one_of(TEXTS, alphabet, st.sampled_from(["ÉTÉ", "été", "ete", "Àb", "àb a"])))
    def equal(text: str) -> None:
        assume(not any(literal in text for literal in pipelines.SPECIAL))
        assert encode_or_refuse(ours, text) == theirs.encode(text, add_special_tokens=False).ids

    equal()


def changed(family: str, **change: object) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(pipelines.train(family))
    model = change.pop("model", {})
    assert isinstance(model, dict)
    return described | change | {"model": described["model"] | model}


REFUSED = {
    "another normalizer": ({"normalizer": {"type": "BertNormalizer"}}, "BertNormalizer"),
    "nested too deep": ({"normalizer": 3}, "must be an object"),
    "a split that drops": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed"}},
        "removes text",
    ),
    "no rule for spaces": ({"normalizer": None, "pre_tokenizer": None}, "makes spaces"),
    "a byte without token": ({"model": {"vocab": {"a": 5}, "merges": []}}, "no token <0x00>"),
    "another decoder": ({"decoder": {"type": "WordPiece"}}, "WordPiece"),
    "a merge of nothing": ({"model": {"merges": [["zz", "qq"]]}}, "package refuses it"),
    "a word model": ({"model": {"type": "WordPiece"}}, "BPE and Unigram"),
}


@pytest.mark.parametrize(("change", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_known_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises((ModelFormatError, ValueError), match=problem):
        build(changed("llama", **change), vocab_size=pipelines.VOCAB_SIZE)


@pytest.mark.parametrize("entries", [[], ["a"], [["a"]], [["a", "b"]], [["a", 0.0], ["a", 0.0]]])
def test_a_unigram_vocabulary_is_checked(entries: list[Any]) -> None:
    with pytest.raises(ModelFormatError, match=r"'model\.vocab'"):
        build(changed("t5", model={"vocab": entries}), vocab_size=pipelines.VOCAB_SIZE)


def test_the_package_is_not_imported_before_it_is_needed() -> None:
    source = Path(__file__).parents[3] / "weights/tokenizers"
    lines = [line for path in source.rglob("*.py") for line in path.read_text().splitlines()]
    assert not [line for line in lines if line.startswith(("import tokenizers", "from tokenizers"))]


@draws(15, 200)
@given(text=BOTH)
def test_text_inside_an_answer_has_no_space_in_front(
    family: str, ours: Tokenizer, text: str
) -> None:
    """A grammar's own text is cut as it stands: the bytes of its tokens are the text."""
    if family == "t5" or pipelines.SPACE in text:
        return
    joined = b"".join(map(ours.token_bytes, encode_with_tags(text, ours)))
    assert joined == text.encode()


def test_a_grammar_takes_bytes_twice() -> None:
    """A letter and the byte it is are two tokens of the same bytes: either goes on."""
    ours = build(json.loads(pipelines.train("llama")), vocab_size=pipelines.VOCAB_SIZE)
    compiler = LLGuidanceCompiler(
        [ours.token_bytes(i) for i in range(ours.vocab_size)],
        special_token_ids=list(ours.special_tokens.values()),
        eos_token_ids=[2],
        encode=partial(encode_with_tags, tokenizer=ours),
    )
    mask = np.zeros(-(-(ours.vocab_size + 1) // 32), np.int32)
    compiler.compile("start: /[ab]/").fill(mask)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    allowed = [ours.token_bytes(int(i)) for i in np.flatnonzero(bits)]
    assert allowed == [b"a", b"b", b"a", b"b"]


def test_a_panic_of_the_package_is_an_error_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no `Exception` in Python: a request that meets one would never be answered. Here a
    normalizer leaves nothing of an added token, which is then found inside of characters."""
    raw = tokenizers.Tokenizer.from_str(pipelines.train("falcon"))
    raw.normalizer = tokenizers.normalizers.Strip()
    raw.add_tokens([tokenizers.AddedToken(" ", lstrip=True, rstrip=True, normalized=True)])
    ours = build(json.loads(pipelines.train("falcon")), vocab_size=pipelines.VOCAB_SIZE)
    monkeypatch.setattr(ours._encoder, "_at_start", raw)  # which is refused as a file's
    with pytest.raises(ValueError, match="has no token"):
        ours.encode("👩")
