"""The page at `/`: an HTML file, style sheets and ES modules, served as they are. No build step.

    chat/, tour/, inspector/, timeline/    one folder for each view
    markdown/                       what a model writes, to DOM nodes
    vendor/                         libraries of others as published: `vendor.toml` has their hashes

ASSETS is the whole of it: what is served, under which path, and what needs no key.
"""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

_MEDIA_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "woff2": "font/woff2",
}


def _found(folder: Traversable, path: str = "") -> Iterator[tuple[str, str]]:
    """(path below this folder, media type) of each file that a browser may have."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        below = path + entry.name
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if entry.is_dir():
            yield from _found(entry, f"{below}/")
        elif media_type is not None:
            yield below, media_type


ASSETS = {
    "/": ("index.html", "text/html"),
    **{f"/web/{path}": (path, kind) for path, kind in _found(files(__name__))},
}
