"""Which version this is. A tree that was only copied somewhere has no metadata to say so."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "thirdeye-server"
NOT_INSTALLED = "0+tree"


def version_of(distribution: str, otherwise: str) -> str:
    """What is installed, or `otherwise` where nothing is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return otherwise


VERSION = version_of(DISTRIBUTION, NOT_INSTALLED)
