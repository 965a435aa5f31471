"""Which names the object at a place in a request may have, for the suggestion of an unknown one."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

Model = type[BaseModel]
_KINDS = ("type", "role")  # the fields that tell the kinds of an object apart


def names_at(model: Model, location: tuple[int | str, ...]) -> set[str]:
    """The names of the object at a location, as pydantic gives it: with tags of unions. Empty where
    that is no object of ours, or one of several kinds that are not told apart."""
    found = [model]
    for step in location:
        if isinstance(step, int):
            continue
        field = _field(found[0], step) if len(found) == 1 else None
        if field is None:
            found = [each for each in found if step.strip("<>") in _kinds_of(each)]
        else:
            found = list(dict.fromkeys(_models_in(field)))
    return _names(found[0]) if len(found) == 1 else set()


def _names(model: Model) -> set[str]:
    fields = {field.alias or name for name, field in model.model_fields.items()}
    return fields.union(getattr(model, "refused", ()))


def _field(model: Model, name: str) -> Any:
    for known, field in model.model_fields.items():
        if name == (field.alias or known):
            return field.annotation
    return None


def _models_in(annotation: Any) -> Iterator[Model]:
    """The models in it: of a union and of a list all that it may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    inner = get_args(annotation)
    for part in inner[:1] if get_origin(annotation) is Annotated else inner:
        yield from _models_in(part)


def _kinds_of(model: Model) -> tuple[Any, ...]:
    fields = (model.model_fields.get(name) for name in _KINDS)
    return tuple(kind for field in fields if field for kind in get_args(field.annotation))
