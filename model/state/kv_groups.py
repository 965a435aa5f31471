"""Which layers share a block table, and where in a block each has its keys and values.

A layer with a window never looks at what lies behind it again, so its blocks can be given back
while a layer that sees everything keeps its own. Layers with one window, or with none, make up
groups; each group has a block table of its own for every sequence. Any block is any group's: it
has `num_places` places, one for each layer of a group, so that one pool serves texts of any length
and nobody has to know in advance how many of them are long.

    Gemma 3 4B     29 layers see 1,024 tokens, 5 see all: blocks of 5 places, one group that keeps
                   everything and six whose blocks are given back
"""

from collections import Counter
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig

MAX_GROUPS = 8  # block tables of a sequence: each step is told all of them
LEAST_GAIN = 0.1  # of the memory of a text: with less, one table is simpler


@dataclass(frozen=True, slots=True)
class KVGroups:
    """Layers are those that keep keys and values, in order."""

    windows: tuple[int, ...]  # of each group: how many tokens its layers see at most; 0: all
    num_places: int  # layers of a block
    group_of: tuple[int, ...]  # of each layer
    place_of: tuple[int, ...]  # of each layer, within the blocks of its group

    @property
    def is_plain(self) -> bool:
        """One table, of which nothing is given back."""
        return self.windows == (0,)


def one_group(config: ModelConfig, window: int = 0) -> KVGroups:
    """All layers in one block."""
    num_layers = len(config.kv_shapes)
    return KVGroups((window,), num_layers, (0,) * num_layers, tuple(range(num_layers)))


def kv_groups(config: ModelConfig) -> KVGroups:
    """The groups by which one text of the whole context takes the least memory, and of equals the
    fewest. One, where next to nothing is gained, and where layers differ in the size of what they
    keep."""
    windows, context = windows_of(config), config.max_position_embeddings
    kept = set(zip(config.kv_shapes, config.value_starts, strict=True))
    if len(kept) > 1 or len(set(windows)) == 1:
        return one_group(config, 0 if 0 in windows else max(windows, default=0))
    counts = Counter(windows)

    def num_groups(num_places: int) -> int:
        return sum(-(-count // num_places) for count in counts.values())

    def size(num_places: int) -> int:
        tokens = sum(-(-n // num_places) * (window or context) for window, n in counts.items())
        return tokens * num_places

    possible = [n for n in range(1, len(windows) + 1) if num_groups(n) <= MAX_GROUPS]
    best = min(possible, key=lambda n: (size(n), num_groups(n)), default=len(windows))
    if size(best) > (1 - LEAST_GAIN) * len(windows) * context:
        return one_group(config)
    return _grouped(windows, best)


def _grouped(windows: tuple[int, ...], num_places: int) -> KVGroups:
    """Layers of one window fill a group after the other; the group that keeps everything is the
    first."""
    own_window: list[int] = []
    group_of, place_of = [0] * len(windows), [0] * len(windows)
    for window in sorted(set(windows)):
        layers = [layer for layer, own in enumerate(windows) if own == window]
        for number, layer in enumerate(layers):
            if number % num_places == 0:
                own_window.append(window)
            group_of[layer], place_of[layer] = len(own_window) - 1, number % num_places
    return KVGroups(tuple(own_window), num_places, tuple(group_of), tuple(place_of))


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
