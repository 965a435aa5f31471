"""What is said of ranks on other hosts, and the secret that lets them in.

Nothing here imports torch: the host of such a rank reads its secret before it joins.
"""

from collections.abc import Callable
from pathlib import Path

from thirdeye.server.engine.distributed.handshake import Credentials
from thirdeye.server.engine.distributed.rank_listener import HostAddress, OnJoined, OtherHosts
from thirdeye.server.load.engine_recipe import EngineRecipe

LEAST_BYTES = 16  # of a secret


def check_remote(recipe: EngineRecipe) -> None:
    """Raises ValueError if what is said of ranks of other hosts does not go together."""
    asked = recipe.placement
    given = [asked.rank_address, asked.rank_secret_file]
    if asked.remote_ranks == 0 and any(given):
        raise ValueError(
            "'--rank-address' and '--rank-secret-file' are for ranks of other hosts: say how many, "
            "'--remote-ranks 1'."
        )
    if asked.remote_ranks and not all(given):
        raise ValueError(
            "'--remote-ranks' needs '--rank-address HOST:PORT', where they join, and "
            "'--rank-secret-file FILE', what they must know."
        )
    if asked.remote_ranks and asked.remote_ranks >= asked.tensor_parallel:
        raise ValueError(
            f"'--remote-ranks' must be less than '--tensor-parallel', which is "
            f"{asked.tensor_parallel}, got {asked.remote_ranks}: rank 0 is here."
        )


def find_others(
    recipe: EngineRecipe, fingerprint: Callable[[], str], on_joined: OnJoined
) -> OtherHosts | None:
    """The ranks of other hosts. Raises ValueError or OSError for an address or a file that will
    not do."""
    asked = recipe.placement
    if not (asked.remote_ranks and asked.rank_address and asked.rank_secret_file):
        return None
    try:
        address = HostAddress.parse(asked.rank_address)
    except ValueError as error:
        raise ValueError(f"'--rank-address' {error}.") from error
    credentials = Credentials.of(read_secret(Path(asked.rank_secret_file)), fingerprint())
    return OtherHosts(asked.remote_ranks, address, credentials, on_joined)


def read_secret(path: Path) -> bytes:
    """The file's bytes, without white space at its ends. Raises ValueError if it is too short, or
    others may read it; OSError."""
    if path.stat().st_mode & 0o077:
        raise ValueError(
            f"'--rank-secret-file' {path} can be read by others: chmod 600 {path}, or less."
        )
    secret = path.read_bytes().strip()
    if len(secret) < LEAST_BYTES:
        raise ValueError(
            f"'--rank-secret-file' {path} must hold at least {LEAST_BYTES} bytes, got "
            f"{len(secret)}: openssl rand -hex 32 > {path}"
        )
    return secret
