"""From what a user typed to a path: nothing, a catalog name, a directory, a file, or a hub id.

What exists on disk wins; only then is `org/name` taken as a hub id. Nothing is fetched here except
from the hub, which has its own cache: catalog models are fetched by `weights/pull.py`, after the
user said so.
"""

import importlib.metadata
import re
import sys
from pathlib import Path

from thirdeye.weights.catalog import CATALOG, DEFAULT, CatalogModel
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.paths import models_directory
from thirdeye.weights.suggest import close_names, did_you_mean, gguf_files_in, near_paths

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja"]


def resolve_model(spec: str | None = None, revision: str | None = None) -> Path:
    """A directory or file to open. None is the default model. Raises `ModelNotFound`.

    `revision` pins a hub model to a branch, tag or commit.
    """
    if spec is None:
        return _catalog_path(DEFAULT)
    if spec in CATALOG:
        return _catalog_path(CATALOG[spec])
    if (path := _existing_path(spec)) is not None:
        return _one_model(path)
    if HUB_ID.fullmatch(spec) and not spec.endswith(".gguf"):
        return _hub_snapshot(spec, revision)
    raise ModelNotFound(
        f"there is no model {spec!r}: it is not a directory or a .gguf file, not a name of the "
        "catalog "
        f"({', '.join(CATALOG)}), and not a hub id like 'org/name'."
        f"{did_you_mean([*close_names(spec, CATALOG), *near_paths(spec)])}"
    )


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
        if path is not None and path.is_file() and path.stat().st_size == model.member_size:
            return path
    return None


def _catalog_path(model: CatalogModel) -> Path:
    path = find_catalog_model(model)
    if path is None:
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


def _hub_snapshot(spec: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 (an optional package)
    except ImportError:
        raise ModelNotFound(
            f"{spec!r} is no directory here; to fetch it from the Hugging Face hub, "
            f"install the package huggingface_hub: {sys.executable} -m pip install huggingface_hub."
            f"{did_you_mean(near_paths(spec))}"
        ) from None
    try:
        return Path(snapshot_download(spec, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client has no common base for its errors
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelNotFound(
            f"{spec!r} could not be had from the Hugging Face hub: {reason}"
            f"{did_you_mean(near_paths(spec))}"
        ) from error
