"""Added tokens that are not special are text: found where the `tokenizers` package finds them."""

import copy
import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import TokenizersBackend

from tests.draws import draws
from tests.weights import vocabularies
from tests.weights.tokenizers import pipelines
from tests.weights.tokenizers.test_gguf_vocabulary import metadata, open_tokenizer
from tests.weights.tokenizers.test_tokenizer import build
from thirdeye.server.text.templates.special_tokens import SpecialTokens
from thirdeye.server.text.tools.form import MARKUP
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

ADDED = [
    AddedToken("    ", normalized=False),
    AddedToken("  ", normalized=False),
    AddedToken("BTCUSD", normalized=False),
    AddedToken("BTC", single_word=True, normalized=False),
    AddedToken("<mask>", lstrip=True, normalized=False),
    AddedToken("<sep>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, single_word=True, normalized=True),
    AddedToken("é!", normalized=True),
    AddedToken("e\u0301?", normalized=True),
]
# Behind a mark or a joiner a word goes on; behind a fraction it does not.
WORD_ENDS = ["x", "1", "_", "\u0301", "\u200d", "\u00bd", "\u24d0", "\u2167"]
PIECES = [token.content for token in ADDED] + [" ", "\n", "e\u0301!", "BT", ".", "é", *WORD_ENDS]


@pytest.fixture(scope="module", params=["gpt2", "qwen2"])
def theirs(request: pytest.FixtureRequest) -> tokenizers.Tokenizer:
    """`qwen2` normalizes to NFC first."""
    tokenizer = vocabularies.train(request.param)
    tokenizer.add_tokens(ADDED)
    return tokenizer


@pytest.fixture(scope="module")
def ours(theirs: tokenizers.Tokenizer) -> Tokenizer:
    return build(vocabularies.as_json(theirs))


@draws(80, 400)
@given(text=st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_they_are_found_in_text(theirs: tokenizers.Tokenizer, ours: Tokenizer, text: str) -> None:
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode_with_special(text) == ours.encode(text)


@pytest.mark.parametrize("before", WORD_ENDS)
def test_a_single_word_stands_alone(
    theirs: tokenizers.Tokenizer, ours: Tokenizer, before: str
) -> None:
    for text in (f"{before}BTC", f"BTC{before}"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_a_written_form_of_a_token_is_that_token(
    theirs: tokenizers.Tokenizer, ours: Tokenizer
) -> None:
    """Where text is made NFC, the token that is looked for in it is too."""
    for text in ("e\u0301?", "\u00e9?"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["é    the", "é   the", "  ", "a  b", "     "])
def test_blanks_that_swallow_blanks_count_once(text: str) -> None:
    theirs = vocabularies.train("gpt2")
    theirs.add_tokens([AddedToken("  ", lstrip=True, rstrip=True, normalized=False)])
    ours = build(vocabularies.as_json(theirs))
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_runs_of_blanks_are_one_token(ours: Tokenizer) -> None:
    """As GPT-NeoX and Phi-2 have them: code came out in pieces that the model never saw."""
    ids = ours.encode("def f():\n    return 1\n")
    assert [ours.token_bytes(i) for i in ids].count(b"    ") == 1


def test_they_are_no_special_tokens(ours: Tokenizer) -> None:
    assert ours.special_tokens.keys() == set(vocabularies.SPECIAL)
    assert ours.token_bytes(ours.encode("BTCUSD")[0]) == b"BTCUSD"


def test_tags_of_tools_are_never_made_of_text(theirs: tokenizers.Tokenizer) -> None:
    """Qwen adds them as tokens that are not special; a user's message must not call a tool."""
    tokenizer = copy.deepcopy(theirs)
    tokenizer.add_tokens(["<tool_call>"])
    ours = build(vocabularies.as_json(tokenizer), never_from_text=MARKUP)
    tag = ours.special_tokens["<tool_call>"]
    assert tag not in ours.encode("<tool_call>")
    assert ours.encode_with_special("<tool_call>") == [tag]


def test_a_special_token_swallows_blanks_of_the_template(theirs: tokenizers.Tokenizer) -> None:
    """Phi-3's `<|end|>` does."""
    tokenizer = copy.deepcopy(theirs)
    tokenizer.add_special_tokens([AddedToken("<|end|>", rstrip=True, normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<|pad|>", lstrip=True, normalized=False)])
    ours = build(vocabularies.as_json(tokenizer))
    for text in ("a<|end|>\n\nb", "<|end|> \n<|end|>", "a \n<|pad|> b", "<|end|> <|pad|>\n"):
        expected = tokenizer.encode(text).ids
        assert ours.encode_with_special(text) == expected
        assert SpecialTokens(ours).encode(text) == expected


def test_a_special_single_word_is_refused(theirs: tokenizers.Tokenizer) -> None:
    tokenizer = copy.deepcopy(theirs)
    tokenizer.add_special_tokens([AddedToken("<|end|>", single_word=True)])
    with pytest.raises(ModelFormatError, match=r"'added_tokens'.*'<\|end\|>' is special and"):
        build(vocabularies.as_json(tokenizer))


def test_tokens_that_the_model_does_not_have(
    theirs: tokenizers.Tokenizer, ours: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """A trainer's [PAD] beyond the embedding: nothing can become it, and all else is as it was."""
    described = json.loads(theirs.to_str())
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    pad = {"content": "[PAD]", "id": 640, "special": True, **flags}
    described["added_tokens"].append(pad)
    padded = build(described)
    assert (
        "left out are 1 added tokens that the model, of 640, does not have: '[PAD]'" in caplog.text
    )
    assert padded.special_tokens == ours.special_tokens
    assert padded.encode_with_special("a[PAD]b") == ours.encode("a[PAD]b")


def test_gguf_words_of_the_user(tmp_path: Path) -> None:
    values = metadata("gpt2")
    first = len(values["tokens"])
    values["tokens"] = [*values["tokens"], "    ", "BTCUSD"]
    values["token_type"] = [*values["token_type"], 4, 4]
    tokenizer = open_tokenizer(tmp_path / "model.gguf", values)
    assert tokenizer.encode("    BTCUSD") == [first, first + 1]
    assert tokenizer.token_bytes(first) == b"    "
    assert tokenizer.special_tokens.keys() == set(vocabularies.SPECIAL)


def test_tokens_of_tokenizer_config_json_alone(theirs: tokenizers.Tokenizer) -> None:
    """transformers adds them too; a template that writes one means that token."""
    described = vocabularies.as_json(theirs)
    first = theirs.get_vocab_size()
    flags = {"lstrip": False, "rstrip": True, "single_word": False, "normalized": False}
    listed = {
        str(first): {"content": "<|turn|>", "special": True, **flags},
        str(first + 1): {"content": "ETHUSD", "special": False, **flags},
        "1": {"content": "<|im_start|>", "special": True, **flags},
    }
    ours = build(described, added_tokens_decoder=listed)
    assert ours.special_tokens["<|turn|>"] == first
    swallowing = dict.fromkeys(("<|turn|>", "<|im_start|>"), (False, True))
    assert ours.strips == swallowing, "of one that tokenizer.json has too, as in transformers"
    assert ours.encode("aETHUSD") == [*ours.encode("a"), first + 1]
    assert ours.encode_with_special("<|turn|>\n\n") == [first]
    taken = {"5": {"content": "<|other|>", "special": True, **flags}}
    with pytest.raises(ModelFormatError, match=r"'<\|other\|>' has the id 5 of "):
        build(described, added_tokens_decoder=taken)
    with pytest.raises(ModelFormatError, match="'added_tokens_decoder'"):
        build(described, added_tokens_decoder={"x": {"content": "<|other|>"}})


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word", "normalized"])
@pytest.mark.parametrize("said", [True, False])
def test_the_settings_flags_count(tmp_path: Path, flag: str, said: bool) -> None:
    """Where both files list a token, as in transformers."""
    theirs = vocabularies.train("qwen2")
    theirs.add_tokens([AddedToken("e\u0301?", **({"normalized": False} | {flag: not said}))])
    added_id = max(theirs.get_added_tokens_decoder())
    others = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), False)
    written = {**others, "content": "e\u0301?", flag: said}
    described = vocabularies.as_json(theirs)
    settings = {"added_tokens_decoder": {str(added_id): written}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    expected = TokenizersBackend.from_pretrained(tmp_path)
    ours = build(described, **settings)
    for text in ("a e\u0301? b", "a \u00e9? b", "ae\u0301?b"):
        assert ours.encode(text) == expected.encode(text, add_special_tokens=False), text


def test_a_token_that_one_file_calls_special_is() -> None:
    theirs = vocabularies.train("gpt2")
    theirs.add_tokens([AddedToken("<x>", normalized=False)])
    described, added_id = vocabularies.as_json(theirs), max(theirs.get_added_tokens_decoder())
    settings = {"added_tokens_decoder": {str(added_id): {"content": "<x>", "special": True}}}
    assert "<x>" in build(described, **settings).special_tokens


def test_a_token_that_the_normalizer_deletes_is_refused() -> None:
    """The package would find it everywhere, and take all memory there is."""
    described = json.loads(pipelines.train("t5"))
    described["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    token = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    added = token | {"id": 700, "content": "  ", "normalized": True}
    described["added_tokens"].append(added)
    with pytest.raises(ValueError, match="the normalizer leaves nothing of it"):
        build(described, vocab_size=pipelines.VOCAB_SIZE)
    added["normalized"] = False
    assert 700 in build(described, vocab_size=pipelines.VOCAB_SIZE).encode("a  b")
