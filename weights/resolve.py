"""From what a user typed to a path: nothing, a catalog name, a directory, a file, or a hub id.

What exists on disk wins; only then is `org/name` taken as a hub id. Nothing is fetched here:
`weights/pull.py` fetches catalog models, `weights/hub/` those of the hub.
"""

import importlib.metadata
import os
from pathlib import Path

from thirdeye.weights.catalog import CATALOG, DEFAULT, CatalogModel
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.hub.hub_name import HubName, parse_hub_name
from thirdeye.weights.hub.hub_store import find_hub_model
from thirdeye.weights.paths import models_directory
from thirdeye.weights.suggest import close_names, did_you_mean, gguf_files_in, near_paths


def resolve_model(
    spec: str | None = None, file: str | None = None, revision: str | None = None
) -> Path:
    """A directory or file to open. None is the default model. Raises `ModelNotFound`.

    `file` and `revision` are of a hub model: which GGUF file, at which branch, tag or commit.
    """
    if (file or revision) and (spec is None or as_hub_name(spec) is None):
        raise ModelNotFound(
            f"'--hf-file' and '--revision' are of a hub's model, like 'org/name'; {spec or 'the '}"
            f"{'' if spec else 'default model'} is none."
        )
    if spec is None:
        return _catalog_path(DEFAULT)
    if spec in CATALOG:
        return _catalog_path(CATALOG[spec])
    if (path := _existing_path(spec)) is not None:
        return _one_model(path)
    if (name := as_hub_name(spec, file, revision)) is not None:
        return _hub_path(name)
    raise ModelNotFound(
        f"there is no model {spec!r}: it is not a directory or a .gguf file, not a name of the "
        "catalog "
        f"({', '.join(CATALOG)}), and not a hub id like 'org/name' or 'org/name:Q4_K_M'."
        f"{did_you_mean([*close_names(spec, CATALOG), *near_paths(spec)])}"
    )


def as_hub_name(
    spec: str | None, file: str | None = None, revision: str | None = None
) -> HubName | None:
    """A hub's model, unless it names something of the catalog or on this disk."""
    if spec is None or spec in CATALOG or _existing_path(spec) is not None:
        return None
    return parse_hub_name(spec, file, revision)


def _one_model(path: Path) -> Path:
    """A directory may hold GGUF files and no checkpoint of its own: a single one is meant."""
    files = gguf_files_in(path) if path.is_dir() else []
    if len(files) > 1:
        raise ModelNotFound(
            f"{path} is a directory of several .gguf files; name one of them.{did_you_mean(files)}"
        )
    return Path(files[0]) if files else path


def _existing_path(spec: str) -> Path | None:
    try:
        path = Path(spec).expanduser()
        return path if spec and (path.is_dir() or path.is_file()) else None
    except (OSError, RuntimeError):  # too long for a path; a home directory of nobody
        return None


def find_catalog_model(model: CatalogModel) -> Path | None:
    """Its file in the cache, or in an installed distribution; a file of another size does not
    count."""
    cached = models_directory() / model.file_name
    for path in (cached, _installed(model)):
        if path is not None and _size_of(path) == model.member_size:
            return path
    return None


def damage_of(model: CatalogModel) -> str:
    """Of a catalog model that `find_catalog_model` does not find: what lies in its place in the
    cache, and what repairs that; empty if nothing does."""
    path = models_directory() / model.file_name
    command = f"'thirdeye pull {model.name}'"
    if not os.path.lexists(path):
        return ""
    if path.is_dir():
        return f"{path} is damaged: it is no file. Move the folder away, and run {command}."
    size = _size_of(path)
    problem = "it is no file"
    if size is not None:
        problem = f"it has {size:,} bytes, the model {model.name!r} has {model.member_size:,}"
    return f"{path} is damaged: {problem}. {command} repairs it."


def _size_of(path: Path) -> int | None:
    """None of what is no file, or lies where we may not look: whoever writes there is told why."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _catalog_path(model: CatalogModel) -> Path:
    path = find_catalog_model(model)
    if path is None:
        if damage := damage_of(model):
            raise ModelNotFound(damage)
        raise ModelNotFound(
            f"the model '{model.name}' is not on this machine. Run 'thirdeye pull {model.name}' "
            f"({model.member_size / 1e6:.0f} MB), or name a model directory or .gguf file."
        )
    return path


def _installed(model: CatalogModel) -> Path | None:
    """The file in an installed distribution, found without importing it."""
    try:
        distribution = importlib.metadata.distribution(model.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(model.member)))


def _hub_path(name: HubName) -> Path:
    path = find_hub_model(name)
    if path is None:
        raise ModelNotFound(
            f"the hub's model {name} is not on this machine, and no directory is called so. Run "
            f"'{name.pull_command}'.{did_you_mean(near_paths(str(name)))}"
        )
    return path
