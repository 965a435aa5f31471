"""What the fake engine was asked for by the inspector, whose looks may be on their way together."""

from typing import Any

READY = "#inspection:not([aria-busy])"
SETTLED = "#lens td.rank"  # the last look that a text brings by itself
OFF = '[{"at":"head","layer":2,"head":1,"set":"mean"},{"at":"mlp_out","layer":0,"set":"zero"}]'


def edits_of(engine: Any) -> list[Any]:
    """Those of the last look that had any."""
    found: list[Any] = [request.edits for request in engine.inspections if request.edits][-1]
    return found


def looks_for(engine: Any, part: str) -> list[Any]:
    """The looks that asked for this part, or are no look at layers but end with it."""
    return [one for one in engine.inspections if part in (*one.arrays, *one.endings)]
