"""The only file of `server/` that reads the environment."""

import os

from thirdeye.server.settings.settings import all_settings


def variables() -> dict[str, object]:
    """What THIRDEYE_* variables say, by a setting's name; several values have commas between."""
    there = {name.upper(): text for name, text in _environment().items()}
    return {
        row.name: [part.strip() for part in text.split(",")] if row.is_many else text
        for row in all_settings()
        if (text := there.get(row.variable)) is not None
    }


def chosen_compiler() -> str | None:
    """What $CC says, as everywhere."""
    return _environment().get("CC")


def _environment() -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251 (the one place that may)
