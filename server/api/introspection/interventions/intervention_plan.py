"""From what a request declares to what the engine is asked: texts tokenized, numbers checked.

Each refusal names the field, the limit and the way out; after this nothing can be wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from thirdeye.server.api.generation.request_rules import check_prompt_ids, encode_raw, refuse
from thirdeye.server.api.introspection.interventions.intervention_fields import (
    Direction,
    Intervention,
)
from thirdeye.server.api.introspection.interventions.number_fields import MAX_TOKENS
from thirdeye.server.api.introspection.token_choice import token_ids_of
from thirdeye.server.api.requests.fields import Prompt
from thirdeye.server.api.state.server_state import ModelInfo, ServedModel
from thirdeye.server.engine.interface.interventions import (
    PATTERNS,
    STREAM_POINTS,
    EditSpec,
)

NUMBERED = {"head": "head", "pattern": "head", "kv_head": "kv_head", "neuron": "neuron"}


@dataclass(slots=True)
class Texts:
    """Those that edits take numbers from: numbered from 1, as the text itself is 0."""

    model: ServedModel
    length: int  # of the text itself
    longest: int = MAX_TOKENS
    ids: list[list[int]] = field(default_factory=list)
    source: int | None = None
    means: list[int] = field(default_factory=lambda: [0])

    async def add(self, text: Prompt, param: str) -> int:
        """Its number. Raises `InvalidRequest`."""
        if isinstance(text, list):
            check_prompt_ids([text], self.model, param)
        found = await encode_raw(text, self.model, param, add_special_tokens=True, is_bounded=True)
        limit = min(self.longest, self.model.max_model_len)
        if not 0 < len(found) <= limit:
            raise refuse(param, f"must be 1 to {limit} tokens long, got {len(found)}.")
        self.ids.append(found)
        return len(self.ids)

    def length_of(self, text: int) -> int:
        return self.length if text == 0 else len(self.ids[text - 1])


async def edit_spec(asked: Intervention, texts: Texts, param: str) -> EditSpec:
    """Raises `InvalidRequest`."""
    index = _check_numbers(asked, texts.model, param)
    given = [name for name in ("set", "scale", "add") if getattr(asked, name) is not None]
    if len(given) != 1:
        raise refuse(param, "must have one of 'set', 'scale' and 'add'.")
    if asked.at == "pattern" and asked.set == "mean":
        for text in texts.means:
            _check_pattern_length(texts, text, "mean_of", "mean")
    if asked.set in PATTERNS and asked.at != "pattern":
        raise refuse(f"{param}.set", f"'{asked.set}' is for 'at': 'pattern'.")
    for name in ("times", "match_norm"):
        if name in asked.model_fields_set and asked.add is None:
            raise refuse(f"{param}.{name}", "needs 'add'.")
    positions = checked_positions(asked.positions, texts.length, f"{param}.positions")
    spec = EditSpec(
        at=asked.at, change=asked.set or given[0], layer=asked.layer, index=index,
        positions=positions,
    )  # fmt: skip
    if asked.source_positions is not None and asked.set != "source":
        raise refuse(f"{param}.source_positions", "needs 'set': 'source'.")
    if asked.set == "source":
        return _from_source(spec, asked, texts, param)
    if asked.add is not None:
        return await _adding(spec, asked, asked.add, texts, f"{param}.add")
    factor = 1.0 if asked.scale is None else asked.scale
    means = texts.means if asked.set == "mean" else []
    return replaced(spec, factor=factor, texts=means)


def _check_numbers(asked: Intervention, model: ServedModel, param: str) -> int:
    """The number of the head or neuron; 0 where there is none."""
    info = model.info
    if asked.at in info.untold:
        raise refuse(f"{param}.at", f"'{asked.at}' cannot be edited: {info.untold[asked.at]}.")
    check_layer(asked.at, asked.layer, info, f"{param}.layer")
    wanted = NUMBERED.get(asked.at)
    for name in ("head", "kv_head", "neuron"):
        if name != wanted and getattr(asked, name) is not None:
            raise refuse(f"{param}.{name}", f"is not for 'at': '{asked.at}'.")
    if wanted is None:
        return 0
    number: int | None = getattr(asked, wanted)
    if number is None:
        raise refuse(f"{param}.{wanted}", f"is needed for 'at': '{asked.at}'.")
    counts = {
        "head": info.num_heads,
        "kv_head": info.num_kv_heads_of(asked.layer),
        "neuron": info.num_neurons_of(asked.layer),
    }
    check_number(number, f"a {wanted}", counts[wanted], f"{param}.{wanted}")
    return number


def _from_source(spec: EditSpec, asked: Intervention, texts: Texts, param: str) -> EditSpec:
    source = needed_source(texts, f"{param}.set")
    length = texts.length_of(source)
    places = checked_positions(asked.source_positions, length, f"{param}.source_positions")
    if places and len(places) != len(spec.positions):
        rule = f"must be as many as 'positions', {len(spec.positions)}, got {len(places)}."
        raise refuse(f"{param}.source_positions", rule)
    if not places:
        check_same_length(texts, source, "positions' and 'source_positions")
        places = spec.positions
    if spec.at == "pattern" and length != texts.length:
        check_same_length(texts, source, "at': another than 'pattern")
    return replaced(spec, texts=[source], from_positions=places)


async def _adding(
    spec: EditSpec, asked: Intervention, add: Direction, texts: Texts, param: str
) -> EditSpec:
    ways = [name for name in ("texts", "tokens", "vector") if getattr(add, name) is not None]
    if len(ways) != 1:
        raise refuse(param, "must have one of 'from', 'tokens' and 'vector'.")
    spec = replaced(spec, factor=asked.times, matches_norm=asked.match_norm)
    if add.texts is not None:
        layer = asked.layer if add.layer is None else add.layer
        check_layer(asked.at, layer, texts.model.info, f"{param}.layer")
        _check_sizes(asked, layer, texts.model.info, f"{param}.layer")
        numbers = [await texts.add(text, f"{param}.from[{i}]") for i, text in enumerate(add.texts)]
        if asked.at == "pattern":
            for number in numbers:
                _check_pattern_length(texts, number, f"{param}.from", "difference")
            if "position" not in add.model_fields_set:  # row by row
                return replaced(spec, texts=numbers, from_layer=layer)
        places = [
            checked_positions([add.position], texts.length_of(number), f"{param}.position")[0]
            for number in numbers
        ]
        return replaced(spec, texts=numbers, from_positions=places, from_layer=layer)
    if add.tokens is not None:
        if spec.at not in STREAM_POINTS:
            rule = f"is not for 'at': '{spec.at}': use 'from' or 'vector'."
            raise refuse(f"{param}.tokens", rule)
        return replaced(spec, tokens=token_ids_of(add.tokens, texts.model, f"{param}.tokens"))
    assert add.vector is not None
    width = width_of(asked.at, asked.layer, texts.length, texts.model.info)
    if len(add.vector) != width:
        raise refuse(f"{param}.vector", f"must have {width} numbers, got {len(add.vector)}.")
    return replaced(spec, vector=add.vector)


def width_of(at: str, layer: int, length: int, info: ModelInfo) -> int:
    """How many numbers a token has there, in a text of this length."""
    head_dim, key_dim = info.head_dim_of(layer), info.key_dim_of(layer)
    widths = {"head": head_dim, "kv_head": key_dim + head_dim, "pattern": length, "neuron": 1}
    return widths.get(at, info.hidden_size)


def _check_sizes(asked: Intervention, layer: int, info: ModelInfo, param: str) -> None:
    """Raises `InvalidRequest` for numbers of a head that another layer's have no place for."""
    if asked.at in ("head", "kv_head"):
        own, other = info.head_dim_of(asked.layer), info.head_dim_of(layer)
        if own != other:
            sizes = f"{own} numbers, those of layer {layer} {other}"
            raise refuse(param, f"must have heads as layer {asked.layer} has: of {sizes}.")
    counts = {"kv_head": info.num_kv_heads_of(layer), "neuron": info.num_neurons_of(layer)}
    number = getattr(asked, NUMBERED[asked.at]) if asked.at in counts else 0
    if asked.at in counts and number >= counts[asked.at]:
        rule = f"must be a layer with a {asked.at} {number}, layer {layer} has {counts[asked.at]}."
        raise refuse(param, rule)


def needed_source(texts: Texts, param: str) -> int:
    if texts.source is None:
        raise refuse(param, "'source' needs the field 'source', another text.")
    return texts.source


def check_same_length(texts: Texts, source: int, way_out: str) -> None:
    length = texts.length_of(source)
    if length != texts.length:
        rule = f"must be as long as the text, {texts.length} tokens, got {length}"
        raise refuse("source", f"{rule}: name '{way_out}', or change one of them.")


def _check_pattern_length(texts: Texts, text: int, param: str, what: str) -> None:
    """Raises `InvalidRequest` for one that has no pattern of this size."""
    length = texts.length_of(text)
    if length != texts.length:
        rule = f"must be as long as the text, {texts.length} tokens, for a pattern's {what}, got"
        raise refuse(param, f"{rule} {length}: change one of them.")


def check_number(number: int, what: str, count: int, param: str) -> None:
    if not 0 <= number < count:
        raise refuse(param, f"must be {what} between 0 and {count - 1}, got {number}.")


def check_layer(at: str, layer: int, info: ModelInfo, param: str) -> None:
    """Raises `InvalidRequest` for one that the model, or that point of it, does not have."""
    check_number(layer, "a layer", info.num_layers, param)
    if layer in info.absent.get(at, ()):
        having = layers_with(at, range(info.num_layers), info)
        rule = f"must be a layer that has '{at}': {', '.join(map(str, having))}, got {layer}."
        raise refuse(param, rule)


def layers_with(at: str, layers: Iterable[int], info: ModelInfo) -> list[int]:
    return [layer for layer in layers if layer not in info.absent.get(at, ())]


def checked_positions(positions: Sequence[int] | None, length: int, param: str) -> list[int]:
    """Counted from 0, as they are given; none: none."""
    for i, position in enumerate(positions or ()):
        if not -length <= position < length:
            rule = f"must be a token between {-length} and {length - 1}, got {position}."
            raise refuse(f"{param}[{i}]", rule)
    found = [position % length for position in positions or ()]
    if len(set(found)) != len(found) and not param.endswith("source_positions"):
        raise refuse(param, "must name each token once.")
    return found


def replaced(spec: EditSpec, **changes: object) -> EditSpec:
    found: EditSpec = replace(spec, **changes)
    return found
