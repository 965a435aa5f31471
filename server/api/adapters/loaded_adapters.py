"""The low-rank adapters that requests may name beside their model, and how they come and go.

A name is an adapter's as long as it is loaded; the engine knows it by a number, which is never used
again. So what is cached of one is never found by another that has its name later.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from thirdeye.server.engine.interface.adapters import AdapterSource
from thirdeye.server.engine.interface.types import Engine
from thirdeye.server.errors import InvalidRequest, ResourceNotFound
from thirdeye.server.logs import clean

logger = logging.getLogger(__name__)
MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    name: str
    number: int
    path: str
    rank: int
    num_bytes: int
    fingerprint: str
    created: int  # unix seconds


def plain_name(name: str) -> str:
    """Of two names with the same one a request means either."""
    return name.removesuffix(":latest").casefold()


def warn_of_another_base(path: str, base: str, names: Sequence[str]) -> None:
    """In the log, where it was made for a model of another name. It may be the same by name."""
    base, known = clean(base), {name.rpartition("/")[2].casefold() for name in names}
    if base and base.rstrip("/").rpartition("/")[2].casefold() not in known:
        logger.warning(
            "%s was made for %s, and is served with %s: if these are not the same weights, "
            "answers will be poor",
            *(path, base, names[0]),
        )


def with_adapter(fingerprint: str, adapter: LoadedAdapter | None) -> str:
    """Of the weights that answer: an adapter's beside its model's."""
    return fingerprint if adapter is None else f"{fingerprint}-{adapter.fingerprint[:8]}"


class LoadedAdapters:
    """Of one model. `folder` is where those lie that callers may load, `given` are paths that the
    operator named; with neither, nothing can be loaded."""

    def __init__(self, folder: Path | None = None, given: Sequence[str] = ()) -> None:
        self._folder = None if folder is None else folder.resolve()
        self._given = frozenset(given)
        self._numbers = count(1)
        self._by_name: dict[str, LoadedAdapter] = {}
        self._loading: set[str] = set()

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    @property
    def num_bytes(self) -> int:
        return sum(adapter.num_bytes for adapter in self._by_name.values())

    def get(self, name: str | None) -> LoadedAdapter | None:
        return self._by_name.get(name or "")

    def named(self, number: int) -> str:
        """Of an adapter that is loaded, or leaves."""
        return next((a.name for a in self._by_name.values() if a.number == number), str(number))

    async def load(
        self,
        engine: Engine,
        name: str,
        path: str,
        taken: Sequence[str],
        *,
        is_replacing: bool = False,
    ) -> LoadedAdapter:
        """Once the engine has it, requests may name it. `taken` are names of the model's own;
        `is_replacing`: one that has the name leaves when this one is there. Raises `InvalidRequest`
        with the reason, or `EngineDead`."""
        self._check_name(name, taken, is_replacing=is_replacing)
        found = self._allowed(path)
        self._loading.add(name)
        try:
            number = next(self._numbers)
            report = await engine.load_adapter(AdapterSource(number, found))
        finally:
            self._loading.discard(name)
        if report.error:
            raise InvalidRequest(
                f"'lora_path': {report.error}", param="lora_path", code="invalid_value"
            )
        warn_of_another_base(found, report.base, taken)
        if (before := self._by_name.get(name)) is not None:
            engine.unload_adapter(before.number)
        adapter = LoadedAdapter(
            *(name, number, found, report.rank, report.num_bytes, report.fingerprint),
            created=int(time.time()),
        )
        self._by_name[name] = adapter
        return adapter

    def unload(self, engine: Engine, name: str) -> None:
        """No request may name it any more; those that have it end first. Raises
        `ResourceNotFound`."""
        adapter = self._by_name.pop(name, None)
        if adapter is None:
            raise ResourceNotFound(
                f"No such adapter; loaded are: {', '.join(self.names) or 'none'}.",
                param="lora_name",
                code="model_not_found",
            )
        engine.unload_adapter(adapter.number)

    def _check_name(self, name: str, taken: Sequence[str], *, is_replacing: bool) -> None:
        if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
            rule = f"must be 1 to {MAX_NAME} printable characters."
        elif plain_name(name) in map(plain_name, taken):
            rule = "is a name of the model itself: choose another."
        elif plain_name(name) in map(plain_name, self._loading):
            rule = "is being loaded."
        elif name in self._by_name and not is_replacing:
            rule = "is loaded already: unload it first, or say 'load_inplace'."
        elif plain_name(name) in (plain_name(other) for other in self._by_name if other != name):
            rule = "is another's but for upper case or ':latest', which do not matter in requests."
        else:
            return
        raise InvalidRequest(f"'lora_name' {rule}", param="lora_name", code="invalid_value")

    def _allowed(self, path: str) -> str:
        """The path as the engine opens it. What lies elsewhere is not looked at."""
        if path in self._given:
            return path
        if self._folder is None:
            where = "one of those given with '--lora': '--lora-dir' names a folder of more"
        else:
            try:
                found = (self._folder / path).resolve()
            except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links
                found = Path("/")
            if found.is_relative_to(self._folder) and found != self._folder:
                return str(found)
            where = "a folder below '--lora-dir', or one of those given with '--lora'"
        raise InvalidRequest(
            f"'lora_path' must be {where}.", param="lora_path", code="invalid_value"
        )
