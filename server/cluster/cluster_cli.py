"""The commands `thirdeye cluster up`, `down`, `status` and `targets`. What they do is imported when
they run: it needs Ray, which is an extra."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thirdeye.clients.grouped_help import GroupedCommand
from thirdeye.server.cluster.cluster_settings import cluster_rows, replica_rows
from thirdeye.server.settings.options import takes_rows

app = typer.Typer(
    name="cluster",
    help="Serve replicas of a model on Ray: pip install 'thirdeye-server[ray]'.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIRECTORY", help="As 'up' was told. [~/.cache/...]"),
]


def up(**options: Any) -> None:
    """Start a cluster on this machine and serve until a signal; every option of 'thirdeye serve'
    that a replica can have is one here. docs/cluster.md tells all of it."""
    from thirdeye.server.cluster.cluster_up import run_up

    raise typer.Exit(run_up({k: v for k, v in options.items() if v not in (None, [])}))


app.command(cls=GroupedCommand)(takes_rows(up, [*cluster_rows(), *replica_rows()]))


@app.command(cls=GroupedCommand)
def down(state_dir: StateOption = None) -> None:
    """End the cluster: its answers first, then every process of it."""
    from thirdeye.server.cluster.cluster_state import run_down

    raise typer.Exit(run_down(state_dir))


@app.command(cls=GroupedCommand)
def status(state_dir: StateOption = None) -> None:
    """Show each model's replicas, by what they do. Exit status 1 if one is not well."""
    from thirdeye.server.cluster.cluster_state import run_status

    raise typer.Exit(run_status(state_dir))


@app.command(cls=GroupedCommand)
def targets(state_dir: StateOption = None) -> None:
    """Print the replicas' own ports as JSON, as Prometheus's service discovery reads them."""
    from thirdeye.server.cluster.cluster_state import run_targets

    raise typer.Exit(run_targets(state_dir))
