"""Why a program at a terminal gives up, in the words of its own options."""

from thirdeye.clients.target import Target


def no_server(base_url: str | None) -> str:
    """Nobody listens: where, and the two ways out."""
    url = Target.find(base_url).base_url
    return f"No server answers at {url}. Start one with: thirdeye serve, or name one with --url."


def in_options(error: ValueError) -> str:
    """The message of an error about an argument, which a person gave as an option."""
    return str(error).replace("'base_url'", "'--url'")
