"""Which models a server is to have: from the command line, and from a TOML file.

thirdeye serve smollm2 big=/models/big.gguf fast@org/name:Q4_K_M --models more.toml

[big]                       # the name clients use; keys are settings, by their names
model = "/models/big.gguf"  # left out: the table's name
quantize = "int8"
max_model_len = 8192
kv_memory = 1.5
aliases = ["gpt-*"]
pin = true                  # or preload = true, keep_alive = 60
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thirdeye.server.operators_file import read_operators_file
from thirdeye.server.settings.pool_settings import PoolSettings
from thirdeye.server.settings.setting import settings_of
from thirdeye.server.settings.settings import GROUPS

OF_A_MODEL = ("checkpoint", "placement", "kernels", "scheduling", "cache", "speculation")
KEYS = frozenset(row.name for group in OF_A_MODEL for row in settings_of(GROUPS[group])) - {
    "served_model_name",
    "yes",
}
OF_ONE_MODEL = frozenset(row.name for row in settings_of(GROUPS["adapters"]))
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:=(.+)|@([^/]+/.+))")


class ModelsUnclear(ValueError):
    """What was said of the models is wrong; the text says where and what."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`options` are settings of its own, by name. Without a `name` it has those of its files."""

    model: str | None
    name: str | None = None
    aliases: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    keep_alive: float | None = None
    is_pinned: bool = False
    is_preloaded: bool = False

    @property
    def settings(self) -> dict[str, object]:
        """As flags would say it."""
        names = [self.name, *self.aliases] if self.name else list(self.aliases)
        return {**self.options, "model": self.model, "served_model_name": names}


def read_specs(model: str | None, asked: PoolSettings) -> list[ModelSpec]:
    """The models in order; the first is the one that requests without a name mean. Raises
    `ModelsUnclear`."""
    words = [*([model] if model is not None else []), *asked.more_models]
    specs = [spec_of(word) for word in words]
    return specs + (specs_in(asked.models) if asked.models else [])


def spec_of(word: str) -> ModelSpec:
    """`MODEL`, `NAME=MODEL` or `NAME@org/name`. What lies on the disk under the whole word wins."""
    found = _NAMED.fullmatch(word)
    if found is None or Path(word).exists():
        return ModelSpec(word)
    return ModelSpec(found[2] or found[3], name=found[1])


def specs_in(file: Path) -> list[ModelSpec]:
    """Raises `ModelsUnclear`."""
    try:
        tables = tomllib.loads(read_operators_file(file))
    except (OSError, ValueError, RecursionError) as error:  # of a number's digits, of depth
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelsUnclear(f"'--models' {file}: {reason}.") from None
    if not tables:
        raise ModelsUnclear(f"'--models' {file} holds no table: [NAME] begins one.")
    return [_spec(file, name, table) for name, table in tables.items()]


def _spec(file: Path, name: str, table: object) -> ModelSpec:
    where = f"'--models' {file}, [{name}]"
    if not isinstance(table, dict):
        raise ModelsUnclear(f"'--models' {file}: '{name}' must stand in a table, [NAME].")
    if not name:
        raise ModelsUnclear(
            f"'--models' {file}: a table's name is its model's, and [\"\"] has none."
        )
    rest: dict[str, Any] = dict(table)
    spec = ModelSpec(
        model=_taken(rest, "model", str, name, where),
        name=name,
        aliases=tuple(_texts(rest.pop("aliases", []), where)),
        keep_alive=_taken(rest, "keep_alive", float, None, where),
        is_pinned=_taken(rest, "pin", bool, False, where),
        is_preloaded=_taken(rest, "preload", bool, False, where),
        options=rest,
    )
    for key in rest:
        if key in OF_ONE_MODEL:
            raise ModelsUnclear(
                f"{where}: '{key}' is for a server of one model: give this one a server of its "
                f"own, with '--{key.replace('_', '-')}'."
            )
        if key not in KEYS:
            known = ", ".join(sorted(KEYS | {"aliases", "keep_alive", "pin", "preload"}))
            raise ModelsUnclear(f"{where}: '{key}' is no key of a model; there are {known}.")
    return spec


def _taken(table: dict[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = table.pop(key, default)
    if kind is float and type(value) is int:
        value = float(value)
    is_odd = kind is float and type(value) is float and not math.isfinite(value)
    if value is not None and (type(value) is not kind or is_odd):
        words = {str: "a text", float: "a number", bool: "true or false"}
        raise ModelsUnclear(f"{where}: '{key}' must be {words[kind]}, got {value!r}.")
    return value


def _texts(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ModelsUnclear(f"{where}: 'aliases' must be a list of texts, got {value!r}.")
    return value
