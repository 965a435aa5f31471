"""The table of settings as a command's options."""

import inspect
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from thirdeye.clients.grouped_help import COMMON
from thirdeye.server.settings.setting import ARGUMENTS, Setting
from thirdeye.server.settings.settings import all_settings

NUM_COMMON = 10
PLACEHOLDERS = {int: "N", float: "X", str: "NAME", Path: "FILE"}
ROWS = {row.name: row for row in all_settings()}


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command of `**options` with an option for each setting: None where it was not given."""
    return takes_rows(command, ROWS.values(), arguments=ARGUMENTS)


def takes_rows(
    command: Callable[..., Any], rows: Iterable[Setting], *, arguments: Collection[str] = ()
) -> Callable[..., Any]:
    """The same with these settings. `arguments` are the names of those without a flag. Of settings
    that people meet first the first ten are shown before all others."""
    rows = list(rows)
    flags = [row for row in rows if row.rule.is_common and row.name not in arguments]
    common = {row.name for row in flags[:NUM_COMMON]}
    ordered = sorted(rows, key=lambda row: row.name not in common)
    parameters = [
        inspect.Parameter(
            row.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _type_of(row) | None,
                _argument_of(row)
                if row.name in arguments
                else _option_of(row, explain(row), COMMON if row.name in common else row.group),
            ],
        )
        for row in ordered
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def option(name: str, group: str | None = None) -> OptionInfo:
    """The option of a setting, for a command that has a few of them and defaults of its own."""
    row = ROWS[name]
    return _option_of(row, explain(row, with_default=False), group)


def explain(row: Setting, *, with_default: bool = True) -> str:
    """Its line in --help."""
    text = row.rule.text
    if row.rule.choices:
        text += f": {', '.join(row.rule.choices)}"
    if row.is_many:
        text += " (repeatable)"
    default = row.shown_default if with_default and row.default is not False else ""
    return f"{text}. [{default}]" if default else f"{text}."


def _argument_of(row: Setting) -> ParameterInfo:
    argument: ArgumentInfo = typer.Argument(help=explain(row), show_default=False)
    return argument


def _option_of(row: Setting, text: str, group: str | None) -> OptionInfo:
    flag = f"{row.flag}/--no{row.flag[1:]}" if row.default is True else row.flag
    names = [flag, row.rule.letter] if row.rule.letter else [flag]
    made: OptionInfo = typer.Option(
        *names,
        help=text,
        metavar=None if row.type is bool else row.rule.unit or PLACEHOLDERS[_item_type(row)],
        rich_help_panel=group,
    )
    return made


def _type_of(row: Setting) -> Any:
    return list[str] if row.is_many else _item_type(row)


def _item_type(row: Setting) -> Any:
    """`int` of `int | None`, `str` of `tuple[str, ...]`."""
    inner = [one for one in getattr(row.type, "__args__", ()) if one not in (type(None), ...)]
    return inner[0] if inner else row.type
