"""The hub itself, by its own client: what a repository holds, and the bytes of a file.

huggingface_hub is asked for addresses, tokens, offline mode and proxies; it is an optional package.
Its own download is not used: it throws away what has come when it is interrupted, and its cache
belongs to other programs too. What goes wrong is told in one line.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thirdeye.weights.errors import ModelNotFound, PullError
from thirdeye.weights.hub.chosen_files import RepositoryFile, stays_inside
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.storage import CHUNK, ByteCount, WatchedFile

TIMEOUT = 30.0  # seconds that the hub may take to answer a question


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """What a repository holds at one commit."""

    commit: str
    files: tuple[RepositoryFile, ...]


class LostConnection(PullError):
    """The hub was not reached, or the line broke: what has come is kept."""


class HubClient(Protocol):
    """Both may raise `PullError` or `ModelNotFound`; `fetch` OSError too, if it cannot write."""

    def list_files(self) -> RepositoryListing: ...

    def fetch(self, file: RepositoryFile, commit: str, partial: Path, done: ByteCount) -> None:
        """Append to `partial` what it lacks of the file."""


class HuggingFaceHub:
    """The hub that the environment names (HF_ENDPOINT), with the token that is there (HF_TOKEN, or
    the file that `hf auth login` writes)."""

    def __init__(self, name: HubName) -> None:
        self._name = name
        self._package = _package(name)

    def list_files(self) -> RepositoryListing:
        try:
            return self._list_files()
        except OSError as error:  # of the token's file, whose path may be none
            raise PullError(
                f"{self._name} is not fetched: {error}. See HF_HOME, HF_TOKEN_PATH and "
                "XDG_CACHE_HOME."
            ) from error

    def _list_files(self) -> RepositoryListing:
        with self._explained():
            info = self._package.HfApi().model_info(
                self._name.repository,
                revision=self._name.revision,
                files_metadata=True,
                timeout=TIMEOUT,
            )
            return RepositoryListing(str(info.sha), tuple(_files(info.siblings or ())))

    def fetch(self, file: RepositoryFile, commit: str, partial: Path, done: ByteCount) -> None:
        with self._explained(file), partial.open("ab") as output:
            self._package.file_download.http_get(
                self._package.hf_hub_url(self._name.repository, file.path, revision=commit),
                WatchedFile(output, done),
                resume_size=output.tell(),
                headers=self._package.utils.build_hf_headers(),
                expected_size=file.size,
            )

    @contextmanager
    def _explained(self, file: RepositoryFile | None = None) -> Iterator[None]:
        """Its client's errors as ours. They have no common base: httpx's are told by their module,
        the hub's answers by their classes."""
        errors = self._package.errors
        name = self._name
        try:
            yield
        except errors.GatedRepoError as error:
            raise PullError(
                f"{name.repository} is gated: accept its terms at "
                f"{self._package.constants.ENDPOINT}/{name.repository}, then 'hf auth login', or "
                "set HF_TOKEN."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ModelNotFound(
                f"{name.repository} has no revision {name.revision or 'main'!r}."
            ) from error
        except errors.EntryNotFoundError as error:
            what = file.path if file else "such file"
            raise ModelNotFound(f"{name.repository} has no {what}.") from error
        except errors.RepositoryNotFoundError as error:
            raise ModelNotFound(
                f"the hub has no model {name.repository!r}; if it is private, 'hf auth login' or "
                "set HF_TOKEN."
            ) from error
        except errors.OfflineModeIsEnabled as error:
            raise PullError(
                f"{name} is not fetched: HF_HUB_OFFLINE says to stay off the network."
            ) from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            reason = {
                401: "it does not take the token; 'hf auth login', or set HF_TOKEN",
                403: "the token does not allow it",
                429: "too many requests; wait a few minutes",
            }.get(status, _first_line(error))
            raise PullError(f"the hub refused {name} with status {status}: {reason}.") from error
        except ValueError as error:  # a name that no repository can have; a file of over 50 GB
            raise PullError(f"{name} is not fetched: {_first_line(error)}.") from error
        except Exception as error:
            is_cut = isinstance(error, OSError) and error.errno is None  # fewer bytes than promised
            if not is_cut and type(error).__module__.split(".")[0] not in ("httpx", "httpx2"):
                raise
            where = self._package.constants.ENDPOINT
            raise LostConnection(
                f"{name} could not be fetched: this machine does not reach {where}, or lost it "
                f"({_first_line(error)}). Go online, or set HTTPS_PROXY or HF_ENDPOINT; what has "
                "come is kept, and the same command goes on."
            ) from error


def _package(name: HubName) -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 (an optional package)
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.file_download  # noqa: PLC0415
    except ImportError:
        raise ModelNotFound(
            f"{name} is not on this machine; to fetch it from the Hugging Face hub, install the "
            f"package huggingface_hub: {sys.executable} -m pip install huggingface_hub."
        ) from None
    package: Any = huggingface_hub
    package.utils.disable_progress_bars()
    package.utils.logging.set_verbosity_error()  # our bar shows that it tries again
    package.constants.DOWNLOAD_CHUNK_SIZE = CHUNK  # what a broken line loses: it writes 10 MB
    return package


def _files(siblings: Iterable[object]) -> Iterator[RepositoryFile]:
    for one in siblings:
        lfs = getattr(one, "lfs", None)
        path, size = getattr(one, "rfilename", None), getattr(one, "size", None)
        if isinstance(path, str) and isinstance(size, int) and stays_inside(path):
            yield RepositoryFile(path, size, getattr(lfs, "sha256", None), one.blob_id)  # type: ignore[attr-defined]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
