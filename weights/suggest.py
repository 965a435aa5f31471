"""What somebody may have meant by a model that is not there: a name or a path close to it."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from thirdeye.weights.formats.gguf.file_names import part_of

MAX_SHOWN = 3
CUTOFF = 0.6  # difflib's: "smolm2" is 0.92 of "smollm2", "gemma" 0.17
MAX_LISTED = 10_000  # entries of a directory that are looked at


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Those of `known` that `name` may be a misspelling of, the closest first, in any case."""
    by_folded = {one.casefold(): one for one in known}
    close = get_close_matches(name.casefold(), by_folded, MAX_SHOWN, CUTOFF)
    return [by_folded[one] for one in close]


def near_paths(spec: str) -> list[str]:
    """Paths that exist where `spec` would lie: with .gguf added, in another case, misspelt; if its
    directory is misspelt too, nothing. Empty for what is no path."""
    try:
        path = Path(spec).expanduser()
        names = [
            entry.name
            for entry, _ in zip(path.parent.iterdir(), range(MAX_LISTED), strict=False)
            if entry.suffix == ".gguf" or entry.is_dir()
        ]
    except (OSError, RuntimeError, ValueError):
        return []
    if not path.name:
        return []
    begun = sorted(name for name in names if name.endswith(".gguf") and _begins(name, path.name))
    close = [name for name in close_names(path.name, names) if name not in begun]
    return [str(path.with_name(name)) for name in (begun + close)[:MAX_SHOWN]]


def _begins(name: str, start: str) -> bool:
    """`model` or `model.Q4` for `model.Q4_K_M.gguf`."""
    return name.casefold().startswith(start.casefold())


def gguf_files_in(directory: Path) -> list[str]:
    """The GGUF files of a directory that is no checkpoint itself."""
    if (directory / "config.json").exists():
        return []
    files = [path for path in sorted(directory.glob("*.gguf")) if part_of(path)[0] == 1]
    return [str(path) for path in files[:MAX_SHOWN]]


def did_you_mean(close: list[str]) -> str:
    """A sentence, with a space before it, or nothing."""
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
