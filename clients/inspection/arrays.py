"""An inspection's numbers as numpy arrays that know what their dimensions are."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thirdeye.clients.errors import ThirdeyeError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelledArray:
    """`dims` names each dimension of `values`; `coords` has the numbers along those that count
    layers, heads or tokens."""

    name: str
    dims: tuple[str, ...]
    values: Floats
    coords: Mapping[str, tuple[int, ...]]

    def at(self, **numbers: int) -> Floats:
        """The part at a layer, head or token by its own number: `scores.at(layer=16, head=0)`.
        Raises KeyError for a dimension that is not there, or a number that was not asked for."""
        index: list[Any] = [slice(None)] * len(self.dims)
        for dim, number in numbers.items():
            if dim not in self.coords or number not in self.coords[dim]:
                raise KeyError(f"{self.name} has no {dim} {number}")
            index[self.dims.index(dim)] = self.coords[dim].index(number)
        found: Floats = self.values[tuple(index)]
        return found


def arrays_of(raw: Mapping[str, Any]) -> dict[str, LabelledArray]:
    """Everything that is numbers, by its name; what has several numbers an entry is several arrays,
    like `logit_lens.id` and `logit_lens.logprob`. Raises ThirdeyeError for what is no answer."""
    try:
        return {array.name: array for array in _arrays(raw)}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ThirdeyeError(f"The inspection cannot be read as arrays: {error!r}.") from None


def _arrays(raw: Mapping[str, Any]) -> Iterator[LabelledArray]:
    coords = _coords(raw)
    for part, dims in raw.get("dims", {}).items():
        layers = [layer for layer in raw["layers"] if part in layer and not _is_empty(layer[part])]
        if len({_shape(layer[part]) for layer in layers}) > 1:  # heads of several sizes, or numbers
            for layer in layers:
                own = coords | {"kv_head": tuple(layer.get("kv_heads", coords.get("kv_head", ())))}
                values = _numbers(layer[part])
                yield _labelled(f"{part}.{layer['layer']}", dims[1:], values, own)
        elif layers:
            own = dict(coords)
            if len(layers) < len(raw["layers"]):  # a part that some layers do not have
                own["layer"] = tuple(layer["layer"] for layer in layers)
            for name, values in _flattened(part, [layer[part] for layer in layers]):
                yield _labelled(name, dims[: values.ndim], values, own)
    for part, dims in (("surprisal", ["token"]), ("attribution", ["layer", "head"])):
        for name, value in raw.get(part, {}).items():
            if name != "tokens" and value is not None:
                values = _numbers(value)
                yield _labelled(f"{part}.{name}", dims[: values.ndim], values, {})
    for kind, values in raw.get("head_scores", {}).get("kinds", {}).items():
        yield _labelled(f"head_scores.{kind}", ["layer", "head"], _numbers(values), {})
    yield from _swept(raw.get("variants", []))


def _coords(raw: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    names = {
        "layer": "layer_numbers", "head": "heads", "kv_head": "kv_heads", "pos": "positions",
        "query_pos": "positions", "lens_position": "lens_positions",
    }  # fmt: skip
    return {dim: tuple(raw[name]) for dim, name in names.items() if name in raw}


def _flattened(part: str, layers: Sequence[Any]) -> Iterator[tuple[str, Floats]]:
    """One part of all layers: arrays as they are, objects field by field."""
    if isinstance(layers[0], dict) and "data" not in layers[0]:  # `norms`
        for name in layers[0]:
            yield f"{part}.{name}", np.stack([_numbers(layer[name]) for layer in layers])
        return
    first = _innermost(layers[0])
    if isinstance(first, dict):  # guesses, neurons, followed tokens
        for name in first:
            if not isinstance(first[name], str):
                picked = [_numbers(_picked(layer, name)) for layer in layers]
                yield f"{part}.{name}", np.stack(picked)
        return
    yield part, np.stack([_numbers(layer) for layer in layers])


def _shape(values: Any) -> tuple[int, ...]:
    """Of numbers; of anything else none."""
    if isinstance(values, dict):
        return tuple(values.get("shape", ()))
    return (len(values), *_shape(values[0])) if isinstance(values, list) and values else ()


def _is_empty(values: Any) -> bool:
    """Whether it is an array without numbers: of heads, in a layer that has none."""
    return 0 in values.get("shape", ()) if isinstance(values, dict) else not values


def _innermost(values: Any) -> Any:
    if isinstance(values, dict) and "data" in values:
        return 0.0
    while isinstance(values, list):
        values = values[0]
    return values


def _picked(values: Any, name: str) -> Any:
    return [_picked(x, name) for x in values] if isinstance(values, list) else values[name]


def _numbers(values: Any) -> Floats:
    """Nested lists, null for NaN; or packed, little-endian float32 in base64."""
    if isinstance(values, dict):
        flat = np.frombuffer(base64.b64decode(values["data"]), "<f4")
        return flat.reshape(values["shape"]).astype(np.float32)
    return np.array(values, dtype=np.float32)


def _swept(variants: Sequence[Mapping[str, Any]]) -> Iterator[LabelledArray]:
    """A grid, if the variants are one; else a list."""
    if not variants:
        return
    dims = [dim for dim in ("layer", "head", "kv_head", "position") if dim in variants[0]]
    coords = {dim: tuple(sorted({variant[dim] for variant in variants})) for dim in dims}
    shape = [len(numbers) for numbers in coords.values()]
    if np.prod(shape) != len(variants):
        dims, coords, shape = ["variant"], {}, [len(variants)]
    else:
        variants = sorted(variants, key=lambda variant: [variant[dim] for dim in dims])
    for name in ("kl", "logit_difference", "recovered", "is_above_noise"):
        if name in variants[0]:
            values = np.array([variant[name] for variant in variants], dtype=np.float32)
            yield _labelled(f"variants.{name}", dims, values.reshape(shape), coords)


def _labelled(
    name: str, dims: Sequence[str], values: Floats, coords: Mapping[str, tuple[int, ...]]
) -> LabelledArray:
    own = {dim: coords[dim] for dim in dims if dim in coords}
    return LabelledArray(name, tuple(dims), values, own)
