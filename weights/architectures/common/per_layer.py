"""Settings of a GGUF file that may be one number, or one for each layer."""

from thirdeye.weights.architectures.common.limits import MAX_LAYERS
from thirdeye.weights.formats.fields import MISSING, Fields


def numbers(fields: Fields, key: str, num_layers: int, high: int) -> list[int]:
    """One for each layer, of a list or of a number that all have."""
    if not is_list(fields, key):
        return [fields.integer(key, high=high)] * num_layers
    found = fields.raw(key)
    listed: list[object] = found.tolist() if hasattr(found, "tolist") else list(found)
    numbers = [number for number in listed if type(number) is int and 1 <= number <= high]
    if len(listed) != num_layers or len(numbers) != num_layers:
        problem = f"must be a number, or one for each of {num_layers} layers, from 1 to {high}."
        raise fields.error(key, problem)
    return numbers


def shared_number(fields: Fields, key: str, default: int = MISSING, *, high: int) -> int:
    """The number that all layers have, said once or for each of them. Raises `ModelFormatError`
    naming the first layer that has another: such layers are not of this architecture."""
    if not is_list(fields, key):
        return fields.integer(key, default, high=high)
    first, *others = numbers(fields, key, fields.integer("block_count", high=MAX_LAYERS), high)
    for layer, number in enumerate(others, 1):
        if number != first:
            problem = f"must be the same in all layers: layer {layer} has {number}, not {first}."
            raise fields.error(key, problem)
    return first


def is_list(fields: Fields, key: str) -> bool:
    found = fields.raw(key, None)
    return hasattr(found, "__len__") and not isinstance(found, str)
