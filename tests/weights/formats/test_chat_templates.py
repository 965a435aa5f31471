"""Where a checkpoint keeps its chat templates: a hub snapshot's folder of links, GGUF's keys."""

from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.weights import tiny
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.chat_templates import read_chat_templates
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields


def test_a_snapshot_links_into_its_repositorys_blobs(tmp_path: Path) -> None:
    """Also from a folder inside of it; nothing else leads out."""
    repository = tmp_path / "models--org--name"
    folder = repository / "snapshots" / "abc" / "additional_chat_templates"
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "1").write_text("with tools")
    link = folder / "tool_use.jinja"
    link.symlink_to("../../../blobs/1")
    directory = Directory(folder.parent)
    assert read_chat_templates(directory, None) == {"tool_use": "with tools"}
    (repository / "secret").write_text("x")
    link.unlink()
    link.symlink_to("../../../secret")
    with pytest.raises(ModelFormatError, match="leads out of the directory"):
        read_chat_templates(directory, None)


def test_ggufs_named_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_context_length = gguf.GGUFWriter.add_context_length
    templates = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]

    def with_templates(writer: gguf.GGUFWriter, length: int) -> None:
        add_context_length(writer, length)
        writer.add_chat_template(templates)

    monkeypatch.setattr(gguf.GGUFWriter, "add_context_length", with_templates)
    found = open_checkpoint(tiny.llama_gguf(tiny.llama(), tmp_path / "tiny.gguf"))
    assert (found.chat_template, found.tool_template) == ("d", "t")


def test_templates_by_name_in_an_object(tmp_path: Path) -> None:
    """As transformers has them in memory, which some programs write."""
    settings = Fields(tmp_path, {"chat_template": {"default": "d", "tool_use": "t"}})
    found = read_chat_templates(Directory(tmp_path), settings)
    assert found == {"default": "d", "tool_use": "t"}
    wrong = Fields(tmp_path, {"chat_template": {"default": 3}})
    with pytest.raises(ModelFormatError, match="'template' that is a string"):
        read_chat_templates(Directory(tmp_path), wrong)


def test_the_default_may_stand_among_the_others(tmp_path: Path) -> None:
    """Also beside chat_template.jinja, and then it counts, as in transformers."""
    folder = tmp_path / "additional_chat_templates"
    folder.mkdir()
    (folder / "default.jinja").write_text("d")
    assert read_chat_templates(Directory(tmp_path), None) == {"default": "d"}
    (tmp_path / "chat_template.jinja").write_text("c")
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
    fast.save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path).chat_template
    theirs = theirs if isinstance(theirs, dict) else {"default": theirs}
    assert read_chat_templates(Directory(tmp_path), None) == theirs


def test_an_empty_text_is_no_template(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("\n")
    directory = Directory(tmp_path)
    assert read_chat_templates(directory, Fields(tmp_path, {"chat_template": ""})) == {}
    settings = Fields(tmp_path, {"chat_template": "d"})
    assert read_chat_templates(directory, settings) == {"default": "d"}
