"""Low-rank adapters as the engine is told of them, and what it says of one that was loaded."""

from msgspec import Struct


class AdapterSource(Struct, frozen=True):
    """An adapter to load. `number` is one that no other has had since the server began: it is what
    requests say, and cached prefixes are kept apart by."""

    number: int
    path: str


class AdapterReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it."""

    number: int
    error: str = ""  # why it is not loaded; empty: it is
    rank: int = 0  # the largest of its layers'
    num_bytes: int = 0  # that it takes as long as it is loaded
    fingerprint: str = ""  # of its files
    base: str = ""  # the model that it was made for, as its files name it
