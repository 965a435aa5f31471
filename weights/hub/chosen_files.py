"""Which files of a repository are the model that was asked for.

The same rule serves for the hub's listing and for what is here. Without a quantization the shards
of safetensors are taken where there are any, else the GGUF file that is first in `PREFERENCE`. What
can run code when it is read (`.bin`, `.pt`) is never among them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.formats.gguf.file_names import part_of, quantization_of, without_part
from thirdeye.weights.hub.hub_name import HubName

PREFERENCE = ("Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q5_K_M", "Q4_0", "Q6_K", "Q8_0", "BF16", "F16")
DESCRIPTIONS = (".json", ".jinja")
PIECES = "tokenizer.model"
NO_MODELS = ("mmproj", "imatrix")  # GGUF files that belong to one: a projector, a calibration
MAX_LISTED = 30


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """`path` counts from the repository's root. `sha256` is known of large files alone, `blob_id`,
    git's SHA-1 of the contents, of the others; of what lies here neither may be."""

    path: str
    size: int
    sha256: str | None = None
    blob_id: str | None = None


def stays_inside(path: str) -> bool:
    """Whether a path that a hub or a record names lies in the folder that it is put into."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") or {*"\\:\0"} & {*part} for part in parts)


@dataclass(frozen=True, slots=True)
class ChosenFiles:
    """The files of one model. `entry` is the one to open, None if it is the folder; `label` is the
    quantization, or the file's name if that does not show one."""

    files: tuple[RepositoryFile, ...]
    entry: str | None
    label: str

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def choose_files(files: Iterable[RepositoryFile], name: HubName) -> ChosenFiles:
    """Raises `ModelNotFound`, which lists what there is instead."""
    files = list(files)
    models = gguf_models(files)
    if name.file is not None:
        return _one_of(models, name, "file", name.file, _is_called)
    if name.quantization is not None:
        if not models and (shards := safetensors_model(files)):
            raise ModelNotFound(
                f"{name.repository} has no GGUF files; leave ':{name.quantization}' away to take "
                f"its safetensors ({_size(shards.size)})."
            )
        return _one_of(models, name, "quantization", name.quantization, _is_quantized)
    if shards := safetensors_model(files):
        return shards
    if not models:
        raise ModelNotFound(
            f"{name.repository} has neither .safetensors nor .gguf files. Others (.bin, .pt) are "
            "never fetched: loading one can run its code."
        )
    if len(models) == 1:
        return models[0]
    for label in PREFERENCE:
        if found := [model for model in models if model.label == label]:
            return found[0]
    raise ModelNotFound(
        f"{name.repository} has {len(models)} GGUF files, none of {', '.join(PREFERENCE)}; "
        f"say which: {_listed(models)}."
    )


def gguf_models(files: Iterable[RepositoryFile]) -> list[ChosenFiles]:
    """One for each GGUF file that is whole, the smallest first; parts of a split one together."""
    groups: dict[PurePosixPath, list[RepositoryFile]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file.path)
        if path.suffix == ".gguf" and not any(word in path.name.lower() for word in NO_MODELS):
            groups[path.with_name(without_part(path))].append(file)
    models = []
    for path, group in groups.items():
        group.sort(key=lambda file: file.path)
        _, count = part_of(PurePosixPath(group[0].path))
        if len(group) == count:
            first = PurePosixPath(group[0].path)
            label = quantization_of(first) or path.name
            models.append(ChosenFiles(tuple(group), group[0].path, label))
    return sorted(models, key=lambda model: (model.size, model.entry))


def safetensors_model(files: Iterable[RepositoryFile]) -> ChosenFiles | None:
    """Configuration, tokenizer and shards at the repository's root; another copy of the weights,
    under a name of its own, is left there."""
    root = {file.path: file for file in files if "/" not in file.path}
    shards = [file for path, file in root.items() if path.endswith(".safetensors")]
    own = [file for file in shards if file.path.startswith("model")]
    if "config.json" not in root or not shards:
        return None
    texts = [file for path, file in root.items() if path.endswith(DESCRIPTIONS) or path == PIECES]
    return ChosenFiles(tuple(texts + (own or shards)), None, "safetensors")


def _one_of(
    models: list[ChosenFiles],
    name: HubName,
    what: str,
    asked: str,
    fits: Callable[[ChosenFiles, str], int],
) -> ChosenFiles:
    """The one that fits best; of several that fit equally well, none is guessed."""
    degrees = [fits(model, asked) for model in models]
    best = [model for model, degree in zip(models, degrees, strict=True) if degree == max(degrees)]
    if not models or max(degrees) == 0:
        by_name = ", ".join(str(model.entry) for model in models[:MAX_LISTED])
        listed = by_name if what == "file" and models else _listed(models)
        raise ModelNotFound(f"{name.repository} has no {what} {asked!r}; it has {listed}.")
    if len(best) > 1:
        raise ModelNotFound(
            f"{name.repository} has several files for {asked!r}; name one with --hf-file: "
            f"{', '.join(str(model.entry) for model in best[:MAX_LISTED])}."
        )
    return best[0]


def _is_called(model: ChosenFiles, asked: str) -> int:
    paths = [PurePosixPath(file.path) for file in model.files]
    return 2 * (PurePosixPath(asked) in paths) or int(asked in [path.name for path in paths])


def _is_quantized(model: ChosenFiles, asked: str) -> int:
    """Unsloth's own mixes are a second meaning of the same letters."""
    label, asked = model.label.upper(), asked.upper()
    return 2 * (asked == label) or int(asked == label.removeprefix("UD-"))


def _listed(models: list[ChosenFiles]) -> str:
    """Each with its size; files by name where quantizations do not tell them apart."""
    labels = Counter(model.label for model in models)
    shown = [
        f"{model.label if labels[model.label] == 1 else model.entry} ({_size(model.size)})"
        for model in models[:MAX_LISTED]
    ]
    rest = len(models) - len(shown)
    return ", ".join(shown + ([f"and {rest} more"] if rest else [])) or "no GGUF files"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
