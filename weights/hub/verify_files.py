"""Are the files that are about to be served the published ones? By their hashes.

Opening a model reads its header and compares sizes: bytes that went wrong in between would be
served. A hash is known of a model of the catalog, of what `thirdeye pull` has fetched from the hub,
and of what huggingface_hub keeps; of other files nobody knows one.
"""

from pathlib import Path

from thirdeye.weights.catalog import CATALOG, DEFAULT, CatalogModel
from thirdeye.weights.errors import ModelDamaged
from thirdeye.weights.hub.chosen_files import RepositoryFile
from thirdeye.weights.hub.file_hash import has_hash
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.hub.hub_store import files_of
from thirdeye.weights.pull import is_intact
from thirdeye.weights.resolve import as_hub_name, find_catalog_model
from thirdeye.weights.storage import Progress, no_progress


def verify_model(
    spec: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    progress: Progress = no_progress,
) -> int:
    """How many bytes were compared: all that `resolve_model` with the same arguments opens. Raises
    `ModelDamaged`, also where no hash is known. A model that is not here is 0 bytes."""
    if (name := as_hub_name(spec, file, revision)) is not None:
        return _verify_hub(name, progress)
    model = DEFAULT if spec is None else CATALOG.get(spec)
    if model is None:
        raise ModelDamaged(
            f"'--verify' has nothing to go by: no hash is known of {spec}. It is known of models "
            "that 'thirdeye pull' fetches; leave '--verify' out for files of your own."
        )
    return _verify_catalog(model, progress)


def _verify_catalog(model: CatalogModel, progress: Progress) -> int:
    path = find_catalog_model(model)
    if path is None:
        return 0
    if not is_intact(model, path, progress):
        raise _damaged(path, f"thirdeye pull {model.name}")
    return model.member_size


def _verify_hub(name: HubName, progress: Progress) -> int:
    if (found := files_of(name)) is None:
        return 0
    folder, chosen = found
    for file in chosen.files:
        if file.sha256 is None and file.blob_id is None:
            raise ModelDamaged(
                f"'--verify' has nothing to go by: no hash is known of {folder / file.path}. "
                f"'{name.pull_command}' fetches {name} with its hashes."
            )
        if not _is_intact(folder / file.path, file, progress):
            raise _damaged(folder / file.path, name.pull_command)
    return chosen.size


def _is_intact(path: Path, file: RepositoryFile, progress: Progress) -> bool:
    try:
        return has_hash(path, file, progress)
    except OSError:
        return False


def _damaged(path: Path, command: str) -> ModelDamaged:
    return ModelDamaged(f"{path} is damaged: it has not its hash. '{command}' repairs it.")
