"""Every key of the `gguf` package's own list, put into a file of every architecture: the model is
another one, or the key is refused by name, or it is known to be harmless.

At a push one value of each key in an architecture's file, another in the next one's: all in each at
night.
"""

from pathlib import Path

import pytest
from gguf.constants import Keys

from tests.architectures.conftest import Written
from tests.architectures.walk.test_gguf_settings import (  # noqa: F401
    WRITTEN,
    Reopen,
    as_written,
    reopen,
)
from tests.draws import also_at_night, is_night
from thirdeye.model.config import ModelConfig
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.metadata_keys import HARMLESS

VALUES = (3, 0.7, True, "yarn", False)
OFF = [("attention.causal", True)]  # beside False: says what is so anyway
PREFIX = "{arch}."
ONE_OF_EACH = list({name.partition("-")[0]: name for name in reversed(WRITTEN)}.values())


def keys() -> list[str]:
    """Those of an architecture, without its name."""
    groups = [group for group in vars(Keys).values() if isinstance(group, type)]
    named = [key for group in groups for key in vars(group).values() if isinstance(key, str)]
    return sorted({key.removeprefix(PREFIX) for key in named if key.startswith(PREFIX)})


@also_at_night
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_key_of_the_format(written: Written, reopen: Reopen, name: str) -> None:  # noqa: F811
    path = written(name)[2]
    assert path is not None
    metadata = as_written(path).metadata
    architecture = metadata["general.architecture"]
    before = reopen(path, {})
    ignored = []
    for turn, key in enumerate(keys(), ONE_OF_EACH.index(name)):
        full = f"{architecture}.{key}"
        if full in metadata:
            continue  # changed in test_gguf_settings
        for value in VALUES if is_night() else [VALUES[turn % len(VALUES)]]:
            found = outcome(reopen, path, full, value)
            is_off = value is False or (key, value) in OFF
            if found == before and not is_off and key not in HARMLESS:
                ignored.append((key, value))
            elif isinstance(found, str) and key not in found and "rope.scaling." not in found:
                ignored.append((key, found))
    assert ignored == []


def outcome(reopen: Reopen, path: Path, key: str, value: object) -> ModelConfig | str:  # noqa: F811
    try:
        return reopen(path, {key: value})
    except ModelFormatError as refusal:
        return str(refusal)


def test_the_package_has_the_keys_that_are_tried() -> None:
    assert len(keys()) > 100
    assert {"attention.scale", "rope.scaling.type", "logit_scale"} <= set(keys())
