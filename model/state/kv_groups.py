"""Which layers share a block table, and where in a block each has its keys and values.

A layer with a window never looks at what lies behind it again, so its blocks can be given back
while a layer that sees everything keeps its own. Layers with one window, or with none, make up
groups; each group has a block table of its own for every sequence. Any block is any group's: it
has `num_places` places, one for each layer of a group, so that one pool serves texts of any length
and nobody has to know in advance how many of them are long.

    Gemma 3 4B     29 layers see 1,024 tokens, 5 see all: blocks of 5 places, one group that keeps
                   everything and six whose blocks are given back

Layers with one window are of one size, those with another may be smaller: of these several lie in
one place, and each finds its own part of a block by a number (`BlockView`).

    Gemma 4 E2B    12 layers of a window keep 256 numbers a head, 3 that see all 512: two of the
                   former to a place
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from thirdeye.model.config import ModelConfig

MAX_GROUPS = 8  # block tables of a sequence: each step is told all of them
LEAST_GAIN = 0.1  # of the memory of a text: with less, one table is simpler


@dataclass(frozen=True, slots=True, order=True)
class BlockView:
    """How a layer sees the blocks of its group: as `num_parts` blocks each, of which `part` is its
    own."""

    group: int
    num_parts: int = 1
    part: int = 0


@dataclass(frozen=True, slots=True)
class KVGroups:
    """Layers are those that keep keys and values, in order."""

    windows: tuple[int, ...]  # of each group: how many tokens its layers see at most; 0: all
    num_places: int  # of a block
    view_of: tuple[BlockView, ...]  # of each layer
    place_of: tuple[int, ...]  # of each layer, within the blocks of its group
    views: tuple[BlockView, ...] = field(init=False, compare=False)  # that any has, in order

    def __post_init__(self) -> None:
        """Once, and not in each step."""
        views = tuple(sorted(set(self.view_of))) or (BlockView(0),)
        object.__setattr__(self, "views", views)

    @property
    def is_plain(self) -> bool:
        """One table, of which nothing is given back."""
        return self.windows == (0,)

    @property
    def group_of(self) -> tuple[int, ...]:
        return tuple(view.group for view in self.view_of)


def one_group(config: ModelConfig, window: int = 0) -> KVGroups:
    """All layers in one block."""
    num_layers = len(config.kv_shapes)
    return KVGroups((window,), num_layers, (BlockView(0),) * num_layers, tuple(range(num_layers)))


def kv_groups(config: ModelConfig) -> KVGroups:
    """The groups by which one text of the whole context takes the least memory, and of equals the
    fewest. One, where next to nothing is gained, and where layers differ in the size of what they
    keep otherwise than by their window, or by no whole number."""
    windows, context = windows_of(config), config.max_position_embeddings
    parts = _parts_of_places(config, windows)
    if parts is None or len(set(windows)) == 1:
        return one_group(config, 0 if 0 in windows else max(windows, default=0))
    layers = Counter(windows)
    places = {window: -(-count // parts[window]) for window, count in layers.items()}

    def num_groups(num_places: int) -> int:
        return sum(-(-count // num_places) for count in places.values())

    def size(num_places: int) -> int:
        tokens = sum(-(-n // num_places) * (window or context) for window, n in places.items())
        return tokens * num_places

    most = sum(places.values())
    possible = [n for n in range(1, most + 1) if num_groups(n) <= MAX_GROUPS]
    best = min(possible, key=lambda n: (size(n), num_groups(n)), default=most)
    whole = sum(count / parts[window] for window, count in layers.items()) * context
    if size(best) > (1 - LEAST_GAIN) * whole:
        return one_group(config)
    return _grouped(windows, best, parts)


def _parts_of_places(config: ModelConfig, windows: tuple[int, ...]) -> dict[int, int] | None:
    """By window, how many of its layers lie in one place, which has room for the largest. None
    where they do not fill it."""
    kept = set(zip(windows, config.kv_shapes, config.value_starts, strict=True))
    sizes = {window: heads * size for window, (heads, size), _ in kept}
    largest = max(sizes.values(), default=1)
    starts = {start for _, _, start in kept}
    if len(kept) > len(sizes) or (len(set(sizes.values())) > 1 and starts != {None}):
        return None
    if any(largest % size for size in sizes.values()):
        return None
    return {window: largest // size for window, size in sizes.items()}


def _grouped(windows: tuple[int, ...], num_places: int, parts: Mapping[int, int]) -> KVGroups:
    """Layers of one window fill a group after the other; the group that keeps everything is the
    first."""
    own_window: list[int] = []
    view_of, place_of = [BlockView(0)] * len(windows), [0] * len(windows)
    for window in sorted(set(windows)):
        layers = [layer for layer, own in enumerate(windows) if own == window]
        for number, layer in enumerate(layers):
            if number % (num_places * parts[window]) == 0:
                own_window.append(window)
            place, part = divmod(number, parts[window])
            view_of[layer] = BlockView(len(own_window) - 1, parts[window], part)
            place_of[layer] = place % num_places
    return KVGroups(tuple(own_window), num_places, tuple(view_of), tuple(place_of))


def room(config: ModelConfig, groups: KVGroups) -> tuple[int, int]:
    """Numbers and vectors of a token in one block: of each place those of its largest layers, and
    of vectors (in 8 bits each has a scale) those of all kinds, which share none."""
    numbers: dict[int, int] = {}
    vectors: dict[tuple[int, int], int] = {}
    kept = zip(config.kv_shapes, config.value_starts, groups.view_of, groups.place_of, strict=True)
    for (heads, size), start, view, place in kept:
        count = (2 if start is None else 1) * heads * view.num_parts
        numbers[place] = max(numbers.get(place, 0), count * size)
        vectors[place, heads * view.num_parts] = count
    return sum(numbers.values()), sum(vectors.values())


def windows_of(config: ModelConfig) -> tuple[int, ...]:
    """Of each layer that keeps keys and values: how many tokens are seen of it, also by those that
    read what it keeps; 0: all that a text can have."""
    seen: dict[int, list[int]] = {layer: [] for layer in config.keeping_layers}
    for layer in config.attending_layers:
        spec = config.attention_of(layer)
        has_end = spec.window is not None and spec.window < config.max_position_embeddings
        source = layer if spec.source is None else spec.source
        seen[source].append(spec.window or 0 if has_end else 0)
    return tuple(0 if 0 in own else max(own) for own in seen.values())
