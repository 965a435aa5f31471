"""What people have that is no checkpoint of ours: how it is known, and the way to one that is.

Nothing is opened here beyond its first bytes: loading a pickle can run its code.
"""

from pathlib import Path

from thirdeye.weights.errors import ModelFormatError

LONGEST_MAGIC = 64
POINTER = b"version https://git-lfs.github.com/"
IS_POINTER = (
    "is Git LFS's note of where the file is, not the file: run 'git lfs pull' in the repository, "
    "or fetch the file again."
)
PICKLED = "Pickled checkpoints (.bin, .pt) are not supported, for reading one can run its code: "
CONVERT = PICKLED + "convert them with save_pretrained(..., safe_serialization=True)."
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
BEFORE_GGUF = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt, ggla, little-endian
LAYOUTS = {  # a file that tells what a directory without config.json is
    "adapter_config.json": "it is an adapter (LoRA), not a model: merge it into its base with "
    "peft's merge_and_unload, save that with save_pretrained, and serve the result.",
    "params.json": "it is in the layout of Mistral's or Meta's own programs: take the repository "
    "of the same model that has a config.json.",
    "model_index.json": "it makes pictures, not text.",
}


def no_model_file(path: Path) -> ModelFormatError:
    """Of a file that is no GGUF file."""
    begin = first_bytes(path)
    if begin.startswith(POINTER):
        return ModelFormatError(path, IS_POINTER)
    if begin.startswith(BEFORE_GGUF):
        return ModelFormatError(
            path, "is in a format of llama.cpp before GGUF: take a GGUF file of the same model."
        )
    problem = "is neither a directory nor a GGUF file."
    if path.suffix == ".safetensors":
        problem += f" Name the directory that it is in ({path.parent}), with its config.json."
    elif path.suffix in PICKLES:
        problem += f" {CONVERT}"
    return ModelFormatError(path, problem)


def no_checkpoint(directory: Path) -> ModelFormatError:
    """Of a directory without config.json."""
    known = (LAYOUTS[name] for name in LAYOUTS if (directory / name).is_file())
    more = next(known, "not a checkpoint in Hugging Face layout.")
    return ModelFormatError(directory, f"there is no config.json: {more}")


def first_bytes(path: Path) -> bytes:
    """Raises `ModelFormatError` of a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_MAGIC)
    except OSError as error:
        raise ModelFormatError(path, f"cannot be read: {error.strerror}.") from error
