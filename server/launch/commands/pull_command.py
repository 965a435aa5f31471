"""`thirdeye pull`: fetch a model, or find out that what is here is what it should be."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import TaskID

from thirdeye.server.launch.console import PlainConsole, bar_of_bytes, fail, printable, say, warn
from thirdeye.server.load.native_kernels import native_status
from thirdeye.weights.catalog import CATALOG, CatalogModel
from thirdeye.weights.errors import ModelError
from thirdeye.weights.hub.hub_name import HubName, parse_hub_name
from thirdeye.weights.hub.hub_pull import pull_hub_model
from thirdeye.weights.hub.hub_store import find_hub_model
from thirdeye.weights.pull import pull
from thirdeye.weights.resolve import find_catalog_model
from thirdeye.weights.storage import Progress
from thirdeye.weights.suggest import close_names, did_you_mean


def pull_model(
    spec: str, *, if_missing: bool, file: str | None = None, revision: str | None = None
) -> int:
    """Fetch a model of the catalog or the hub with a progress bar, or check the one that is here by
    its hash; 0 once it is right. `if_missing` takes one that is here as right: `make serve` asks
    each time."""
    if spec in CATALOG and not (file or revision):
        return pull_from_catalog(CATALOG[spec], if_missing=if_missing)
    if spec in CATALOG:
        return fail(
            f"'--hf-file' and '--revision' are of a hub's model, like 'org/name'; {spec} is none."
        )
    if (name := parse_hub_name(spec, file, revision)) is not None:
        return pull_from_hub(name, if_missing=if_missing)
    meant = did_you_mean(close_names(spec, CATALOG))
    return fail(
        f"{spec!r} is neither in the catalog ({', '.join(CATALOG)}) nor a hub id like 'org/name' "
        f"or 'org/name:Q4_K_M'.{meant}"
    )


def pull_from_catalog(model: CatalogModel, *, if_missing: bool) -> int:
    if not (if_missing and find_catalog_model(model)):
        try:
            _pull(model)
        except ModelError as error:
            return fail(str(error))
    compile_kernels()
    return 0


def compile_kernels() -> None:
    """So that no start has to do without them. Why there are none is said: it is slower."""
    status = native_status()
    if status.startswith("none:"):
        sys.stderr.write(f"thirdeye: native kernels: {status}. torch's serve instead, slower.\n")


def pull_from_hub(name: HubName, *, if_missing: bool) -> int:
    if not (if_missing and find_hub_model(name)):
        try:
            with progress_bar(str(name), set()) as progress:
                pulled = pull_hub_model(name, progress)
        except ModelError as error:
            return fail(str(error) + _still_here(name))
        fetched = f"{pulled.num_fetched / 1e6:,.0f} MB fetched" if pulled.num_fetched else "is here"
        say(
            f"{name} ({pulled.label}, {pulled.num_bytes / 1e6:,.0f} MB, commit "
            f"{pulled.commit[:10]}): {fetched}, hashes are right: {pulled.path}"
        )
    compile_kernels()
    return 0


def _still_here(name: HubName) -> str:
    path = find_hub_model(name)
    return f"\nWhat was fetched before can still be served: {path}" if path else ""


def _pull(model: CatalogModel) -> None:
    before = find_catalog_model(model)
    steps: set[str] = set()
    with progress_bar(model.name, steps) as progress:
        path = pull(model, progress)
    if before is not None and "download" not in steps:
        say(f"{model.name} is here, its SHA-256 is right: {path}")
        return
    if before is not None:
        warn(f"{before} had the wrong SHA-256: fetched again.")
    say(f"{model.name}: {path} ({model.license})")


@contextmanager
def progress_bar(name: str, steps: set[str]) -> Iterator[Progress]:
    """A line a step on stderr; `steps` collects those that were taken."""
    tasks: dict[str, TaskID] = {}
    with bar_of_bytes(PlainConsole(stderr=True)) as bar:

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(f"{step} {printable(name)}")
                steps.add(step)
            bar.update(tasks[step], completed=done, total=total)

        yield progress
