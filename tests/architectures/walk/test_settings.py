"""No setting of a configuration is passed over in silence: each is read, refused, or listed."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from tests.architectures.conftest import Written
from tests.architectures.table import CASES
from tests.architectures.walk.harmless import HARMLESS, harmless
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

READERS = {name: found for found in ARCHITECTURES for name in found.model_types}
CONFIG = Path("config.json")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every setting that somebody asks `Fields` for."""
    names: set[str] = set()

    def noting(ask: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(ask)
        def asked(fields: Fields, key: str, *rest: Any) -> Any:
            names.add(fields.prefix + key)
            return ask(fields, key, *rest)

        return asked

    for name in ("raw", "is_null", "__contains__"):
        monkeypatch.setattr(Fields, name, noting(getattr(Fields, name)))
    return names


def variants(model_type: str, written: Written) -> list[dict[str, Any]]:
    """All settings as transformers writes them: by default, and in our cases. What is only read
    where a newer setting is missing is read in the second half."""
    configs = [CONFIG_MAPPING[model_type]()]
    configs += [written(name)[0].config for name in CASES if name.partition("-")[0] == model_type]
    new = [config.to_dict() for config in configs]
    old = [{k: v for k, v in settings.items() if k != "layer_types"} for settings in new]
    return new + old


def flat(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Their names; those of objects, as of rotations, with their own."""
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, dict) and key not in HARMLESS:
            own = {k: v for k, v in value.items() if k not in HARMLESS}
            yield from flat(own, f"{prefix}{key}.")


@pytest.mark.parametrize("model_type", READERS)
def test_every_setting_is_read_or_known_to_be_harmless(
    model_type: str, read: set[str], written: Written
) -> None:
    known: set[str] = set(CONFIG_MAPPING[model_type].attribute_map)  # other names for some
    for settings in variants(model_type, written):
        known |= set(flat(settings))
        with suppress(ModelFormatError):  # refused by name: the name was read
            READERS[model_type].huggingface_config(Fields(CONFIG, settings))
    assert known - read - harmless(model_type) == set()
    assert read & harmless(model_type) == set()  # the list says nothing that is not so


def test_every_exception_is_of_some_class(written: Written) -> None:
    known = {key for name in READERS for settings in variants(name, written) for key in settings}
    assert HARMLESS.keys() - known == set()
