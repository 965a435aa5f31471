"""`thirdeye`, and the process that talks to Ray for it, without the short way of a token to its
socket or with Ray's own thread for the application: what `ray_parts` compares."""

import os
from typing import Any

from thirdeye.server.transport import answering_protocol

IS_SHORT = os.environ.get("BENCH_IS_SHORT") != "0"  # noqa: TID251
OWN_THREAD = os.environ.get("BENCH_OWN_THREAD", "0")  # noqa: TID251


def change_protocol() -> None:
    """The application finds no short way under its name, and takes ASGI's."""
    if not IS_SHORT:
        answering_protocol.DIRECT_WRITE = "nobody's"  # type: ignore[misc,attr-defined]


def command() -> None:
    from thirdeye.server.cli import main
    from thirdeye.server.cluster import cluster_up

    variables = cluster_up.ray_variables

    def changed(*args: Any) -> dict[str, str]:
        return {**variables(*args), "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": OWN_THREAD}

    change_protocol()
    cluster_up.ray_variables = changed
    cluster_up.DRIVER = "tests.bench.cluster.changed_driver"
    main()


if __name__ == "__main__":
    command()
