"""What the server's process makes of a checkpoint's files: defaults, templates, turn ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

from tests.tiny import tiny_llama
from thirdeye.server.launch.model_template import EXAMPLE_TOOLS
from thirdeye.server.launch.opened_model import OpenedModel, open_model
from thirdeye.server.launch.server_run import defaults_line
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tiny_llama(tmp_path)
    return tmp_path


def opened(checkpoint: Path, **flags: Any) -> OpenedModel:
    return open_model(read_settings({"model": str(checkpoint), **flags}).checkpoint)


def test_suggestions_are_taken_unless_switched_off(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suggested = {"temperature": 0.6, "top_k": 20, "max_new_tokens": 99, "num_beams": 4}
    (checkpoint / "generation_config.json").write_text(json.dumps(suggested))
    model = opened(checkpoint)
    assert model.defaults.said() == {"temperature": 0.6, "top_k": 20, "max_tokens": 99}
    assert "num_beams, which are not obeyed here" in caplog.text
    (line,) = defaults_line(model.defaults)
    assert line.endswith("as the model suggests: temperature 0.6, top_k 20, max_tokens 99")
    ignoring = opened(checkpoint, generation_config="none")
    assert ignoring.defaults.said() == {}
    assert defaults_line(ignoring.defaults) == []


def test_a_checkpoint_says_what_it_is(checkpoint: Path) -> None:
    model = opened(checkpoint)
    assert (model.info.architecture, model.info.file_format) == ("llama", "safetensors")
    stored = open_checkpoint(checkpoint)
    assert {model.info.tensor_format} == stored.tensor_formats().keys()
    assert model.info.num_bytes == sum(
        tensor.numel() * tensor.element_size() for _, tensor in stored.tensors()
    )


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("ends", [0, None, [0, 1]], ids=str)
def test_the_templates_own_turn_end_counts(
    checkpoint: Path, ends: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Files that call the base model's token the end, or none: answers would never end."""
    change(checkpoint / "config.json", eos_token_id=ends)
    (checkpoint / "generation_config.json").unlink()
    change(checkpoint / "tokenizer_config.json", eos_token=None)
    model = opened(checkpoint)
    assert 2 in model.tokenizer.eos_token_ids
    assert "ends turns with <|im_end|> (token 2)" in caplog.text
    assert model.tokenizer.fingerprint != open_checkpoint(checkpoint).tokenizer().fingerprint


def test_a_turn_end_that_is_known_is_no_news(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = open_checkpoint(checkpoint).tokenizer()
    tokenizer = opened(checkpoint).tokenizer
    assert tokenizer.eos_token_ids == known.eos_token_ids
    assert tokenizer.fingerprint == known.fingerprint
    assert "ends turns" not in caplog.text


def test_a_turn_end_that_is_not_special(checkpoint: Path) -> None:
    """Some conversions say that `<end_of_turn>` is a word of the user's."""
    file = checkpoint / "tokenizer.json"
    tokens = json.loads(file.read_text())["added_tokens"]
    change(file, added_tokens=[token | {"special": False} for token in tokens])
    change(checkpoint / "tokenizer_config.json", eos_token=None)
    change(checkpoint / "config.json", eos_token_id=0)
    (checkpoint / "generation_config.json").unlink()
    assert opened(checkpoint).tokenizer.eos_token_ids == {0, 2}


def test_templates_write_the_token_that_the_tokenizers_settings_name(checkpoint: Path) -> None:
    """Not the lowest of all that end an answer."""
    change(checkpoint / "generation_config.json", eos_token_id=[0, 2])
    source = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    change(checkpoint / "tokenizer_config.json", chat_template=source)
    messages = [{"role": "user", "content": "Hi"}]
    theirs = AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(messages, tokenize=False)
    template = opened(checkpoint).template
    assert template is not None
    assert template.render(messages) == theirs == "Hi<|im_end|>"


SWITCHED = "{% for m in messages %}{{ m.content }}{% endfor %}{{ enable_thinking }}{{ mood }}"


def test_variables_of_the_template_may_be_set_at_the_start(checkpoint: Path) -> None:
    change(checkpoint / "tokenizer_config.json", chat_template=SWITCHED)
    told = opened(checkpoint, default_chat_template_kwargs='{"enable_thinking": false}')
    assert told.template_variables == {"enable_thinking": False}
    assert opened(checkpoint).template_variables == {}
    with pytest.raises(ChatTemplateError, match=r"'moon' is not read .* enable_thinking, mood"):
        opened(checkpoint, default_chat_template_kwargs='{"moon": 1}')
    for wrong in ("[]", "{", "1"):
        with pytest.raises(ValidationError, match="must be a JSON object"):
            opened(checkpoint, default_chat_template_kwargs=wrong)


PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
WITH_TOOLS = (
    "{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)
NAMED = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": WITH_TOOLS}]
HI = [{"role": "user", "content": "Hi"}]


def shown(checkpoint: Path) -> tuple[str, str]:
    """The prompt without tools, and with them."""
    template = opened(checkpoint).template
    assert template is not None
    return template.render(HI), template.for_tools.render(HI, tools=EXAMPLE_TOOLS)


def check_against_transformers(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    theirs = [
        tokenizer.apply_chat_template(HI, tools=tools, tokenize=False, add_generation_prompt=True)
        for tools in (None, EXAMPLE_TOOLS)
    ]
    assert list(shown(checkpoint)) == theirs
    assert "now" in theirs[1]
    assert "now" not in theirs[0]


def test_named_templates_of_the_settings(checkpoint: Path) -> None:
    change(checkpoint / "tokenizer_config.json", chat_template=NAMED)
    check_against_transformers(checkpoint)


def test_named_templates_in_files_come_first(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(PLAIN)
    (checkpoint / "additional_chat_templates").mkdir()
    (checkpoint / "additional_chat_templates" / "tool_use.jinja").write_text(WITH_TOOLS)
    check_against_transformers(checkpoint)


def test_a_template_that_the_operator_gives_is_the_only_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    change(checkpoint / "tokenizer_config.json", chat_template=NAMED)
    mine = tmp_path / "mine.jinja"
    mine.write_text(PLAIN)
    template = opened(checkpoint, chat_template=mine).template
    assert template is not None
    assert template.for_tools is template


def test_a_form_of_calls_that_is_not_read_is_told(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"name": "tool_use", "template": WITH_TOOLS.replace("<tool_call>", "Action:")}
    change(checkpoint / "tokenizer_config.json", chat_template=[NAMED[0], other])
    template = opened(checkpoint).template
    assert template is not None
    assert template.for_tools is template
    assert "'tool_use' has a form of calls that is not read here" in caplog.text


def test_a_broken_template_for_tools_stops_the_start(checkpoint: Path) -> None:
    broken = {"name": "tool_use", "template": "{% if %}"}
    change(checkpoint / "tokenizer_config.json", chat_template=[NAMED[0], broken])
    with pytest.raises(ChatTemplateError, match=r"named 'tool_use': .* does not parse"):
        opened(checkpoint)


def test_a_list_without_a_default(checkpoint: Path) -> None:
    change(checkpoint / "tokenizer_config.json", chat_template=NAMED[1:])
    with pytest.raises(ModelFormatError, match="none of its templates is named 'default'"):
        opened(checkpoint)


def test_the_template_of_a_processor(checkpoint: Path) -> None:
    """Models that also see keep theirs in chat_template.json."""
    change(checkpoint / "tokenizer_config.json", chat_template=None)
    (checkpoint / "chat_template.json").write_text(json.dumps({"chat_template": PLAIN}))
    assert shown(checkpoint)[0] == "Hi"
