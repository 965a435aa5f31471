"""A value of another type is refused with the field, what it may be, and what to write instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

Read = Callable[[Fields], Any]


def integer(fields: Fields) -> int:
    return fields.integer("n", high=100)


def positive(fields: Fields) -> float:
    return fields.positive("n")


def boolean(fields: Fields) -> bool:
    return fields.boolean("n")


def text(fields: Fields) -> str:
    return fields.text("n")


def nested(fields: Fields) -> Fields | None:
    return fields.nested("n")


def refuse(fields: Fields) -> None:
    fields.refuse("n", False, "none")


def refuse_others(fields: Fields) -> None:
    fields.refuse("n", 1)


def refuse_any(fields: Fields) -> None:
    fields.refuse("n")


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (integer, "7", "must be an integer between 1 and 100, got '7': write 7."),
        (integer, 7.0, "must be an integer between 1 and 100, got 7.0: write 7."),
        (integer, 7.5, "must be an integer between 1 and 100, got 7.5: write one."),
        (integer, "101", "must be an integer between 1 and 100, got '101': write one."),
        (integer, "inf", "must be an integer between 1 and 100, got 'inf': write one."),
        (integer, True, "must be an integer between 1 and 100, got True: write one."),
        (integer, [7], "must be an integer between 1 and 100, got [7]: write one."),
        (integer, 0, "must be between 1 and 100, got 0."),
        (integer, None, "is required and missing; write it."),
        (positive, "1e-6", "must be a number above 0, got '1e-6': write 1e-06."),
        (positive, "auto", "must be a number above 0, got 'auto': write one."),
        (positive, False, "must be a number above 0, got False: write one."),
        (positive, -1, "must be a finite number above 0, got -1."),
        (boolean, "True", "must be true or false, got 'True': write true."),
        (boolean, 0, "must be true or false, got 0: write false."),
        (boolean, {}, "must be true or false, got {}: write one."),
        (text, 3, "must be a string, got 3: write \"3\"."),
        (text, ["a"], "must be a string, got ['a']: write one."),
        (nested, "yarn", "must be an object, got 'yarn': write one."),
        (refuse, True, "is not supported (value True); what works is a model where it is false "
                       "or 'none'."),
        (refuse_others, True, "is not supported (value True); what works is a model where it is "
                              "1."),
        (refuse_any, 3, "is not supported (value 3); what works is a model without it."),
    ],
)  # fmt: skip
def test_what_to_write(read: Read, value: object, said: str) -> None:
    with pytest.raises(ModelFormatError) as error:
        read(Fields(Path("config.json"), {"n": value}))
    assert str(error.value) == f"config.json, 'n': {said}"


def test_a_binary_file_is_its_converters() -> None:
    with pytest.raises(ModelFormatError) as error:
        integer(Fields(Path("a.gguf"), {"llama.n": 7.0}, "llama."))
    assert str(error.value).endswith("got 7.0: convert the model again, with 7.")


@pytest.mark.parametrize("read", [integer, positive, boolean, text, nested, refuse, refuse_any])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_an_array_of_a_binary_file(read: Read, size: int) -> None:
    """As any other value of another type, whatever is in it."""
    with pytest.raises(ModelFormatError, match=r"'llama\.n': (must be|is not supported)"):
        read(Fields(Path("a.gguf"), {"llama.n": np.zeros(size, np.int32)}, "llama."))
