"""`--help` of a command: its options in groups, in the order they are declared. Those that people
use first, ten at most, stand before all others.

An option names its group by `rich_help_panel`; this shows groups in plain text, with complete names
of options at any width. A default stands in brackets.
"""

from typing import Any

from typer.core import TyperCommand

ARGUMENTS, COMMON, OPTIONS = "Arguments", "Common options", "Options"


class GroupedCommand(TyperCommand):
    """`@app.command(cls=GroupedCommand)`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {ARGUMENTS: [], COMMON: []}
        for parameter in self.get_params(ctx):
            kind = ARGUMENTS if parameter.param_type_name == "argument" else OPTIONS
            title = getattr(parameter, "rich_help_panel", None) or kind
            if shown := parameter.get_help_record(ctx):
                name, text = shown
                groups.setdefault(title, []).append((name, text.replace(" [default: ", "[")))
        is_grouped = len(set(groups) - {ARGUMENTS, COMMON, OPTIONS}) > 0 or bool(groups[COMMON])
        for title, rows in groups.items():
            if rows:
                named = f"Other {title.lower()}" if is_grouped and title == OPTIONS else title
                with formatter.section(named):
                    formatter.write_dl(rows)
