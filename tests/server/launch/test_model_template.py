"""What a checkpoint's template prints by the names of tokens: as transformers does."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TokenizersBackend

from tests.weights import vocabularies
from tests.weights.tokenizers.test_tokenizer import build
from thirdeye.server.launch.model_template import make_template

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
SOURCE = "{{ messages[0].content }}" + "".join(f"|{{{{ {name} }}}}" for name in NAMES)
START, STOP, ADDED = "<|im_start|>", "<|im_end|>", {"__type": "AddedToken"}


@pytest.mark.parametrize(
    "settings",
    [
        {"bos_token": None, "eos_token": STOP, "pad_token": "<|endoftext|>"},
        {"eos_token": {"content": STOP, **ADDED}, "cls_token": START, "sep_token": STOP},
        {"bos_token": START, "eos_token": STOP, "unk_token": {"content": START, **ADDED}},
    ],
)
def test_tokens_by_name(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A config.json may know a BOS that tokenizer_config.json does not: then there is none."""
    described = vocabularies.as_json(vocabularies.train("gpt2"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = TokenizersBackend.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Hi"}]
    template = make_template(SOURCE, None, build(described, bos=0, **settings))
    expected = theirs.apply_chat_template(messages, chat_template=SOURCE, tokenize=False)
    assert template.render(messages) == expected


def test_a_request_may_name_documents() -> None:
    source = "{{ messages[0].content }}{{ documents is defined }}{{ (documents or ['none'])[0] }}"
    tokenizer = build(vocabularies.as_json(vocabularies.train("gpt2")), eos_token=STOP)
    template = make_template(source, None, tokenizer)
    messages = [{"role": "user", "content": "Hi"}]
    assert template.render(messages) == "HiTruenone"
    assert template.render(messages, variables={"documents": ["x"]}) == "HiTruex"


@pytest.mark.parametrize("changes_a_list", [False, True])
def test_a_template_that_cannot_write_a_call_is_told_of_at_the_start(
    changes_a_list: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A list that grows is refused here as in transformers: some edited templates have one."""
    source = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% set ids = [] %}{% for m in messages %}"
        "{{ m.content }}{% for call in m.tool_calls or [] %}"
        + ("{% set _ = ids.append(call.id) %}" if changes_a_list else "")
        + '<tool_call>{"name": "{{ call.function.name }}", "arguments": '
        "{{ call.function.arguments | tojson }}}</tool_call>{% endfor %}{% endfor %}"
    )
    tokenizer = build(vocabularies.as_json(vocabularies.train("gpt2")), eos_token=STOP)
    assert make_template(source, None, tokenizer).carries_tools
    assert ("cannot write a call of an earlier answer" in caplog.text) is changes_a_list
