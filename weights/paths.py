"""Where files live on this machine; the one module of `weights` that reads the environment.

Variables of the Hugging Face hub (HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE) are read by
huggingface_hub itself.
"""

import os
from pathlib import Path


def models_directory() -> Path:
    """`$XDG_CACHE_HOME/thirdeye/models`, by default under `~/.cache`. It need not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")  # noqa: TID251 (this module's job)
    # The XDG specification: a relative path is to be ignored.
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return root / "thirdeye" / "models"


def kernels_directory() -> Path:
    """Beside the models: what was compiled on this machine."""
    return models_directory().with_name("kernels")


def child_environment(temporary_directory: Path) -> dict[str, str]:
    """Our environment for a child process, with its temporary files put where we can see and remove
    them."""
    return dict(os.environ, TMPDIR=str(temporary_directory))  # noqa: TID251 (this module's job)
