"""docs/settings.md, made from the table of settings: a test holds the two together.

python -m tests.server.settings.page     writes it anew
"""

from collections.abc import Iterator
from pathlib import Path

from thirdeye.server.settings.setting import ARGUMENTS, Group, Setting, settings_of
from thirdeye.server.settings.settings import GROUPS, all_settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"
HEAD = """\
# Settings

    thirdeye serve --max-num-seqs 8
    THIRDEYE_MAX_NUM_SEQS=8 thirdeye serve        the same; a flag wins

Each setting is a flag and a variable: `THIRDEYE_`, then the flag in capitals with `_` for `-`.
A flag that is repeatable is a variable with commas between its values, a switch one that is `true`
or `false`; the model is an argument, `thirdeye serve MODEL`, and `THIRDEYE_MODEL`. What is wrong is
refused before anything is loaded. `thirdeye serve --help` tells the same. What they mean for a
server that runs: [operations.md](operations.md); for speed and memory: [cpu.md](cpu.md) and
[gpu.md](gpu.md).

The ones to know first: COMMON.

This page is written from the table in `server/settings/`, where a new setting is one row.
"""


UNITS = {"GIB": "GiB", "SHARE": ""}


def page() -> str:
    common = ", ".join(f"`{row.flag}`" for row in all_settings() if row.rule.is_common)
    sections = (part for group in GROUPS.values() for part in _section(group))
    return HEAD.replace("COMMON", common) + "".join(sections)


def _section(group: type[Group]) -> Iterator[str]:
    yield f"\n## {group.title}\n\n{group.__doc__}\n\n"
    yield "| flag | default | takes | what it does |\n|---|---|---|---|\n"
    rows = list(settings_of(group))
    for row in rows:
        is_argument = row.name in ARGUMENTS
        name = f"`{row.name.upper()}`" if is_argument else f"`{row.flag}`"
        letter = f", `{row.rule.letter}`" if row.rule.letter else ""
        shown = f"{row.shown_default or 'none'} | {_takes(row)} | {row.rule.text}"
        yield f"| {name}{letter} | {shown} |\n"
    for row in rows:
        if row.rule.choices:
            meant = {word: meaning for word, meaning in row.rule.choices.items() if meaning}
            yield f"\n`{row.flag}`\n\n"
            yield from (f"* `{word}`: {meaning}\n" for word, meaning in meant.items())


def _takes(row: Setting) -> str:
    if row.type is bool:
        return f"a switch; off: `--no{row.flag[1:]}`" if row.default else "a switch"
    if row.rule.choices:
        return ", ".join(f"`{word}`" for word in row.rule.choices)
    kind = UNITS.get(row.rule.unit, row.rule.unit.lower())
    of_many = "repeatable" if row.is_many else ""
    return ", ".join(part for part in (kind, row.shown_range, of_many) if part)


if __name__ == "__main__":
    PAGE.write_text(page())
