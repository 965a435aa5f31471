"""What of a request did not change its answer, and is named in the header `X-Ignored-Params`."""


class Ignored:
    """The names so far. `is_lenient`: unknown fields are named too, instead of refused."""

    def __init__(self, names: set[str] | None = None, *, is_lenient: bool = False) -> None:
        """`names` is added to, where it is given."""
        self.names: set[str] = set() if names is None else names
        self.is_lenient = is_lenient
