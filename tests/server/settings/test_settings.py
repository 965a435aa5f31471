"""The table of settings: each row is a variable, a line of --help and one of the docs."""

import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.recipes import make_recipe
from tests.server.settings.page import PAGE, page
from tests.server.test_cli import thirdeye
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.setting import ARGUMENTS, Setting
from thirdeye.server.settings.settings import GROUPS, all_settings
from thirdeye.server.text.reasoning.reasoning_form import REASONING_FORMS
from thirdeye.server.text.tools.families.form_table import CALL_FORMS

ROWS = {row.name: row for row in all_settings()}
SPECIAL = {
    "device": "cuda:1",
    "lora": "sql=/adapters/sql",
    "root_path": "/llm",
    "cors_origin": "https://example.org",
    "otlp_traces_endpoint": "http://127.0.0.1:4318/v1/traces",
}


def another_value(row: Setting, folder: Path) -> str:
    """One that the row allows and that is not its default, as text."""
    if row.name in SPECIAL:
        return SPECIAL[row.name]
    if row.rule.choices:
        return next(word for word in row.rule.choices if word != row.default)
    if row.type is bool:
        return "false" if row.default else "true"
    if row.type in (int, float, int | None, float | None):
        limit = row.rule.at_least or row.rule.at_most or 7
        return str(int(limit) if row.default != limit else int(limit) + 1)
    if row.type == Path | None:
        file = folder / row.name
        file.write_text("a-key")
        return str(file)
    return '{"another":1}' if row.rule.unit == "JSON" else "another"


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_a_variable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    text = another_value(row, tmp_path)
    monkeypatch.setenv(row.variable, text)
    (group,) = (attribute for attribute in GROUPS if hasattr(GROUPS[attribute], name))
    value = getattr(getattr(read_settings(), group), name)
    assert value != row.default
    assert str(value[0] if row.is_many else value).lower() in (text, f"{text}.0")


def test_a_name_stands_once() -> None:
    counts = Counter(row.name for row in all_settings())
    assert [name for name, count in counts.items() if count > 1] == []


def test_forms_of_models_are_those_that_are_read() -> None:
    assert ROWS["reasoning_format"].rule.choices.keys() == {"auto", "none", *REASONING_FORMS}
    assert ROWS["tool_format"].rule.choices.keys() == {"auto", "hermes", *CALL_FORMS}


def test_a_default_is_allowed() -> None:
    """Read like a flag, it comes out as it is."""
    told = {name: row.default for name, row in ROWS.items()}
    assert read_settings(told) == read_settings()


def test_the_page_is_the_table() -> None:
    """`python -m tests.server.settings.page` writes it."""
    assert PAGE.read_text() == page()


def test_help_shows_every_flag_in_its_group() -> None:
    """Ten that people use first, then group by group, each with its default."""
    shown = thirdeye("serve", "--help").stdout
    sections = dict(re.findall(r"^(\w[\w ]+):\n((?:  .*\n)+)", shown, re.MULTILINE))
    common = [row for row in ROWS.values() if row.rule.is_common]
    assert len(common) == 10
    assert list(sections)[1] == "Common options"
    for row in ROWS.values():
        if row.name in ARGUMENTS:
            continue
        section = sections["Common options" if row in common else row.group]
        assert re.search(rf"{row.flag}\b", section), row
        line = " ".join(section.split(row.flag + " ", 1)[-1].split())
        assert row.shown_default in line if row.type is not bool else True


def test_the_engines_groups_cross_to_its_process_as_they_are() -> None:
    recipe = make_recipe("/models/tiny", [2], kv_memory=0.5, threads=3, quantize="int8")
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(recipe), type=EngineRecipe)
    assert crossed == recipe
    assert (crossed.cache.kv_memory_bytes, crossed.placement.threads) == (1 << 29, 3)


@pytest.mark.parametrize(
    "name", ["a\nReady: http://evil", "a\x1b[2J", "a\u202eb", "a\u2028b", "\0"]
)
def test_a_models_name_makes_no_line_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="no line ends, control characters") as caught:
        read_settings({"served_model_name": ["fine", name]})
    assert "served_model_name" in str(caught.value)
    assert read_settings({"served_model_name": ["Größe *", "模型"]})
